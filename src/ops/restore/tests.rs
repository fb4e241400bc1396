//! Restores into real directories, kind and hostile.
