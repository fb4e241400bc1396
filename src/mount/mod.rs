//! Floor 6: the kernel's side. Alone names `fuser`; only translates between its requests and the views.
