//! Backups of real directories into real repositories.
