//! names (first cut)
use super::id::NameId;
use std::sync::Mutex;
static TABLE: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
pub(crate) fn intern(text: &str) -> NameId {
    let mut table = TABLE.lock().unwrap();
    if let Some(found) = table.iter().position(|name| *name == text) {
        return NameId(found as u32 + 1);
    }
    table.push(Box::leak(text.into()));
    NameId(table.len() as u32)
}
pub(crate) fn text(id: NameId) -> Option<&'static str> {
    TABLE.lock().unwrap().get((id.0 as usize).checked_sub(1)?).copied()
}
