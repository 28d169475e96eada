//! The command line: the same worker without a window.
