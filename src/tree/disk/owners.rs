//! Names of users and groups, each asked for once.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::sync::{PoisonError, RwLock};

use crate::tree::encode::OWNER_MOST;

#[derive(Default)]
pub(super) struct Owners {
    users: RwLock<HashMap<u32, Vec<u8>>>,
    groups: RwLock<HashMap<u32, Vec<u8>>>,
}

impl Owners {
    /// Empty for a user without a name.
    pub fn user(&self, uid: u32) -> Vec<u8> {
        name(&self.users, uid, || uzers::get_user_by_uid(uid).map(|user| user.name().as_bytes().to_vec()))
    }

    /// Empty for a group without a name.
    pub fn group(&self, gid: u32) -> Vec<u8> {
        name(&self.groups, gid, || uzers::get_group_by_gid(gid).map(|group| group.name().as_bytes().to_vec()))
    }
}

fn name(known: &RwLock<HashMap<u32, Vec<u8>>>, id: u32, ask: impl FnOnce() -> Option<Vec<u8>>) -> Vec<u8> {
    if let Some(name) = known.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
        return name.clone();
    }
    let name = ask().filter(|name| name.len() <= OWNER_MOST).unwrap_or_default();
    known.write().unwrap_or_else(PoisonError::into_inner).insert(id, name.clone());
    name
}
