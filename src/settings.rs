//! What a person set up, kept between starts.
