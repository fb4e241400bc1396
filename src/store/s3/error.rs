//! From the library's errors to those of stores: what may be tried again, what the user has to mend, what is damage.

use opendal::ErrorKind;
use rustls::CertificateError;

use crate::store::StoreError;

/// What an error says in one line, without addresses, headers and stacks.
pub fn convert(place: String, error: &opendal::Error) -> StoreError {
    if let Some(what) = distrust(error) {
        return StoreError::Distrusted { place, what };
    }
    let code = code(error.message());
    let what = what(error, code);
    match (error.kind(), code) {
        (_, Some("NoSuchBucket")) => StoreError::NoPlace { place },
        (ErrorKind::NotFound, _) => StoreError::Absent { place },
        (ErrorKind::PermissionDenied, _)
        | (_, Some("AuthorizationHeaderMalformed" | "InvalidToken" | "ExpiredToken" | "InvalidRequest")) => {
            StoreError::Refused { place, what }
        }
        (_, Some("QuotaExceeded" | "EntityTooLarge" | "XMinioStorageFull")) => StoreError::Full { place },
        (_, None) if what.contains("credential") => StoreError::Refused { place, what: NO_CREDENTIALS.to_owned() },
        _ if error.is_temporary() => StoreError::Unavailable { place, what },
        _ => StoreError::Io { place, source: std::io::Error::other(what) },
    }
}

/// What is wrong with the server's certificate, if that is why there was no answer. It would be the next time.
fn distrust(error: &opendal::Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(rustls::Error::InvalidCertificate(error)) = inner.downcast_ref() {
            return Some(match error {
                CertificateError::UnknownIssuer => "nobody who is trusted here has signed its certificate".to_owned(),
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "its certificate has expired".to_owned()
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "its certificate is for another name".to_owned()
                }
                other => format!("its certificate is refused: {other}"),
            });
        }
        // What an I/O error wraps is not its source.
        let wrapped = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = wrapped.map(|wrapped| wrapped as _).or_else(|| inner.source());
    }
    None
}

/// What is said where no credentials were found.
const NO_CREDENTIALS: &str = "no credentials for it were found";

/// The service's word for what is wrong: the library gives it in the text of the answer it read.
fn code(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("S3Error { code: \"")?;
    rest.split('"').next().filter(|code| !code.is_empty())
}

fn what(error: &opendal::Error, code: Option<&str>) -> String {
    match code {
        Some("InvalidAccessKeyId") => "the access key is unknown there".to_owned(),
        Some("SignatureDoesNotMatch") => "the secret key is wrong".to_owned(),
        Some("AccessDenied") => "access denied".to_owned(),
        Some("ExpiredToken") => "the session token has expired".to_owned(),
        Some("RequestTimeTooSkewed") => "this machine's clock is wrong".to_owned(),
        Some("SlowDown" | "ServiceUnavailable" | "TooManyRequests") => {
            format!("the server is busy ({})", code.unwrap_or_default())
        }
        Some(code) => format!("the server answers {code}"),
        None => plain(error),
    }
}

/// The innermost cause says best what happened ("Connection refused"); outer ones say what was being done.
fn plain(error: &opendal::Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    let mut innermost = None;
    while let Some(inner) = cause {
        innermost = Some(inner.to_string());
        cause = inner.source();
    }
    let text = innermost.unwrap_or_else(|| error.message().to_owned());
    let line = text.split(['\n', '\r']).map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given");
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}
