//! Tests of stages through the kernel.
