//! Forms: JSON of known length with blanks in it, copied out whole and filled in over the copy.
//!
//! To fill in first and copy then would have the processor wait: a wide read right behind narrow
//! writes to the same place is slow.

/// The parts one behind the other.
///
/// # Panics
/// At compile time, if they are not as long as the form.
#[expect(clippy::indexing_slicing, reason = "at compile time")]
pub(super) const fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut bytes = [0; N];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let mut index = 0;
        while index < parts[part].len() {
            bytes[at] = parts[part][index];
            at += 1;
            index += 1;
        }
        part += 1;
    }
    assert!(at == N, "the length of the form is that of its parts");
    bytes
}

/// Appends a form, to be filled in.
#[inline(always)]
pub(super) fn append<'a, const N: usize>(
    out: &'a mut Vec<u8>,
    form: &[u8; N],
) -> Option<&'a mut [u8; N]> {
    let at = out.len();
    out.extend_from_slice(form);
    out.get_mut(at..)?.first_chunk_mut()
}

/// Fills in a blank.
#[inline(always)]
pub(super) fn put<const N: usize, const M: usize>(form: &mut [u8; N], at: usize, value: &[u8; M]) {
    form[at..at + M].copy_from_slice(value);
}
