//! xebec: an OCI container runtime, as a library.
