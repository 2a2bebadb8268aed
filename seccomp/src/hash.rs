//! Hash of a system call name, shared by build.rs (which lays out the name
//! table) and `table` (which looks names up). Nothing else may depend on it.

/// Number of slots in the name table; a power of two above twice the names.
pub(crate) const SLOTS: usize = 2048;

/// Maps a name to its first slot. Eight bytes a step: a profile names some
/// 450 calls, and each is hashed once a compile.
pub(crate) fn slot(name: &[u8]) -> usize {
    let mut hash: u64 = name.len() as u64;
    for chunk in name.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    (hash >> 40) as usize % SLOTS
}
