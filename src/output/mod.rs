//! Pictures on disk: saving, the settings inside, the history, the trash.
