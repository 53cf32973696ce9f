//! The server's URL, read without any part of a password in what is told of it.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use tokio_postgres::Config;

use super::{OptionsError, PostgresOptions, RootCertificates};

/// As [`PostgresOptions::from_url`] says.
pub(super) fn read(url: &str) -> Result<PostgresOptions, OptionsError> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(OptionsError::Url("it does not begin with postgres://".to_owned()));
    }
    // As the driver reads it: everything up to the first `@` is user and password, a `?` in it included.
    let credentials = url.find('@').map_or(0, |at| at + 1);
    let (address, parameters) = match url[credentials..].find('?') {
        Some(at) => (&url[..credentials + at], &url[credentials + at + 1..]),
        None => (url, ""),
    };
    if address[credentials..].contains('@') {
        // The driver would take what is behind the first one, a part of the password, for the host.
        let why = "it has several `@`: one in a user, password or database is written as %40";
        return Err(OptionsError::Url(why.to_owned()));
    }
    let mut root_certificates = RootCertificates::System;
    let mut driver_parameters = Vec::new();
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("sslmode", "verify-ca" | "verify-full")) => driver_parameters.push("sslmode=require"),
            Some(("sslrootcert", _)) if cfg!(not(feature = "tls")) => return Err(OptionsError::NoTls),
            Some(("sslrootcert", "system")) => root_certificates = RootCertificates::System,
            Some(("sslrootcert", path)) => root_certificates = certificates(path)?,
            _ => driver_parameters.push(parameter),
        }
    }
    let mut for_driver = address.to_owned();
    if !driver_parameters.is_empty() {
        for_driver = for_driver + "?" + &driver_parameters.join("&");
    }
    let server =
        Config::from_str(&for_driver).map_err(|error| OptionsError::Url(harmless(&error, parameters)))?;
    Ok(PostgresOptions { root_certificates, ..PostgresOptions::from_config(server) })
}

/// Those in the file of this percent-encoded path.
fn certificates(path: &str) -> Result<RootCertificates, OptionsError> {
    let failed = |why: String| OptionsError::RootCertificates { from: path.to_owned(), why };
    let path = percent_decoded(path).ok_or_else(|| failed("it is no path".to_owned()))?;
    let text = fs::read_to_string(PathBuf::from(&path)).map_err(|error| failed(error.to_string()))?;
    crate::tls::check_roots(text, &path)
}

/// What the driver says of a URL, without repeating anything that may be a part of a password.
fn harmless(error: &tokio_postgres::Error, parameters: &str) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if let Some(name) = cause.strip_prefix("unknown option ") {
        // With an `@` behind them, they may be the rest of a password that has one itself.
        return match parameters.contains('@') {
            true => {
                "it has a parameter that is not known, or an `@` in the password that is not written as %40"
                    .to_owned()
            }
            false => format!("its parameter {name} is not known"),
        };
    }
    if cause == "invalid value for option `sslmode`" {
        return format!("{cause}: disable, prefer, require, verify-ca and verify-full are possible");
    }
    if cause.is_empty() { "it is not whole".to_owned() } else { cause }
}

/// Undoes percent-encoding; nothing if what comes out is no text.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    fn options(url: &str) -> PostgresOptions {
        PostgresOptions::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn a_url_that_cannot_be_read_is_told_without_any_part_of_its_password() {
        let broken = [
            "postgres://u:hunter2@host:port/d",
            "postgres://u:p@hunter2@host/d?x=1",
            "postgres://u:hunter2@host/d?sslmode=hunter2",
            "postgres://u:p@ss?hunter2=1@host/d",
            "postgres://u:%zzhunter2@host/d?connect_timeout=hunter2",
            "host=localhost password=hunter2",
            "hunter2",
            "",
        ];
        for url in broken {
            let error = PostgresOptions::from_url(url).expect_err(url);
            let told = format!("{error} {error:?}");
            assert!(!told.contains("hunter2") && !told.contains("ter2"), "{url}: {told}");
        }
    }

    #[test]
    fn a_parameter_that_is_not_known_is_named() {
        for url in
            ["postgres://localhost:5432/d?sslmode=disable&nonsense=1", "postgresql://u:p@host/d?nonsense=1"]
        {
            let error = PostgresOptions::from_url(url).expect_err(url).to_string();
            assert!(error.ends_with("its parameter `nonsense` is not known"), "{error}");
        }
    }

    #[test]
    fn what_is_in_a_password_is_no_parameter() {
        let options = options("postgres://u:hun?sslmode=verify-full&ter2@localhost/d?sslmode=disable");
        assert_eq!(options.server.get_password(), Some(&b"hun?sslmode=verify-full&ter2"[..]));
        assert_eq!(options.server.get_ssl_mode(), SslMode::Disable);
    }

    #[test]
    fn an_at_sign_in_a_password_is_told_before_a_part_of_it_is_looked_up_as_a_host() {
        for url in ["postgres://u:p@hunter2@host/d", "postgres://u:p@hunter2/x@host/d?sslmode=disable"] {
            let told = PostgresOptions::from_url(url).unwrap_err().to_string();
            assert!(told.contains("%40") && !told.contains("hunter2"), "{told}");
        }
        let encoded = options("postgres://u:p%40ss@host/d");
        assert_eq!(encoded.server.get_password(), Some(&b"p@ss"[..]));
    }

    #[test]
    fn an_sslmode_that_is_none_is_told_with_those_that_are() {
        let told = PostgresOptions::from_url("postgres://u@host/d?sslmode=allow").unwrap_err().to_string();
        for mode in ["disable", "prefer", "require", "verify-ca", "verify-full"] {
            assert!(told.contains(mode), "{told}");
            options(&format!("postgres://u@host/d?sslmode={mode}"));
        }
    }

    #[test]
    #[cfg(not(feature = "tls"))]
    fn root_certificates_that_nobody_would_look_at_are_refused() {
        for named in ["system", "/nowhere/root.pem"] {
            let url = format!("postgres://u@localhost/d?sslrootcert={named}");
            let refused = PostgresOptions::from_url(&url).unwrap_err();
            assert!(matches!(refused, OptionsError::NoTls), "{refused}");
        }
    }

    #[test]
    #[cfg(feature = "tls")]
    fn a_root_certificate_is_read_from_where_the_url_says() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("my root.pem");
        let certificate = rcgen::generate_simple_self_signed(["host".to_owned()]).unwrap().cert.pem();
        fs::write(&path, &certificate).unwrap();
        let encoded = path.to_str().unwrap().replace(' ', "%20");
        let url = |path: &str| format!("postgres://u@host/d?sslmode=verify-full&sslrootcert={path}");
        assert_eq!(options(&url(&encoded)).root_certificates, RootCertificates::Pem(certificate));
        assert_eq!(options(&url("system")).root_certificates, RootCertificates::System);
        let error = PostgresOptions::from_url(&url("/nowhere/root.pem")).unwrap_err();
        assert!(matches!(&error, OptionsError::RootCertificates { from, .. } if from == "/nowhere/root.pem"));
    }
}
