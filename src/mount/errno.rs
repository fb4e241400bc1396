//! The table of errnos: what a caller sees of each error of a view. Knows nothing of when they arise.

use fuser::Errno;

use crate::view::FsError;

/// The errno that answers a request. Damage is also logged here, once per request that met it: the one place that all
/// failed requests come through.
pub fn errno(error: &FsError) -> Errno {
    match error {
        FsError::NotFound => Errno::ENOENT,
        FsError::NotDir => Errno::ENOTDIR,
        FsError::IsDir => Errno::EISDIR,
        FsError::Exists => Errno::EEXIST,
        FsError::NotEmpty => Errno::ENOTEMPTY,
        FsError::ReadOnly => Errno::EROFS,
        FsError::NoSpace => Errno::ENOSPC,
        FsError::NameTooLong => Errno::ENAMETOOLONG,
        FsError::Denied => Errno::EACCES,
        FsError::NotPermitted => Errno::EPERM,
        FsError::Invalid => Errno::EINVAL,
        FsError::NoAttr => Errno::ENODATA,
        FsError::Range => Errno::ERANGE,
        FsError::TooBig => Errno::EFBIG,
        FsError::ValueTooBig => Errno::E2BIG,
        FsError::NoSuchOffset => Errno::ENXIO,
        FsError::TooManyLinks => Errno::EMLINK,
        FsError::CrossDevice => Errno::EXDEV,
        FsError::Loop => Errno::ELOOP,
        FsError::Stale => Errno::ESTALE,
        FsError::BadHandle => Errno::EBADF,
        FsError::NotSupported => Errno::EOPNOTSUPP,
        FsError::NotImplemented => Errno::ENOSYS,
        FsError::Busy => Errno::EBUSY,
        FsError::Ended => Errno::from_i32(libc::ESHUTDOWN),
        FsError::Damaged(what) | FsError::Failed(what) => {
            log::error!("{what}");
            Errno::EIO
        }
        FsError::Io(source) => match source.raw_os_error() {
            Some(code) => Errno::from_i32(code),
            None => {
                log::error!("{source}");
                Errno::EIO
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_an_input_output_error_and_never_an_absence() {
        assert_eq!(errno(&FsError::Damaged("pack 12, block 3, etc/passwd".into())).code(), libc::EIO);
    }

    #[test]
    fn the_systems_own_errnos_pass_through() {
        let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(errno(&FsError::from(full)).code(), libc::ENOSPC);
        assert_eq!(errno(&FsError::from(std::io::Error::other("odd"))).code(), libc::EIO);
    }
}
