//! How the bytes of a signature are written.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

/// The longest signature in bytes: RSA with 4096 bits.
pub(super) const MAX_SIGNATURE: usize = 512;

const PADDING_OR_NOT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// Base64, with or without padding.
pub(super) const LENIENT: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDING_OR_NOT);
const LENIENT_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDING_OR_NOT);

/// How bytes are written in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Hexadecimal, either case.
    Hex,
    /// Base64 (RFC 4648, section 4), with or without padding.
    Base64,
    /// Base64 for URLs (RFC 4648, section 5), with or without padding.
    Base64Url,
}

impl Encoding {
    /// The bytes, in `buffer`; `None` when the text does not read or is longer than any signature.
    pub(super) fn decode<'b>(self, text: &str, buffer: &'b mut [u8; MAX_SIGNATURE]) -> Option<&'b [u8]> {
        let length = match self {
            Self::Hex => {
                let length = text.len() / 2;
                hex::decode_to_slice(text, buffer.get_mut(..length)?).ok()?;
                length
            }
            Self::Base64 => LENIENT.decode_slice(text, buffer).ok()?,
            Self::Base64Url => LENIENT_URL.decode_slice(text, buffer).ok()?,
        };
        Some(&buffer[..length])
    }
}
