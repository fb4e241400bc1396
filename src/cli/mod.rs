//! Floor 7: the command line. Alone prints, prompts and exits.
