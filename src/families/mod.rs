//! A family is a config plus parts: how files become a model that draws.
