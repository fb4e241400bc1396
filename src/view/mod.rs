//! Floor 5: filesystems that can be driven without a kernel.
