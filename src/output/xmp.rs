//! The XMP packet of a picture: says that a model drew it, or had a part in it, and in JPEG and WebP,
//! which have no text keys, carries Easel's own record.
//!
//! Source: XMP specification part 1 (serialisation) and IPTC Photo Metadata 2023.2
//! (`DigitalSourceType`). The record lies in a namespace of its own, which other readers skip.

use crate::request::PictureSettings;

/// Where a picture comes from: the names of `Iptc4xmpExt:DigitalSourceType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A trained model drew it from words.
    Drawn,
    /// A trained model enlarged what may be a photo.
    Enlarged,
}

impl Source {
    /// What is on record of no drawing may be anybody's photo.
    pub fn of(settings: &PictureSettings) -> Self {
        match (settings.steps, &settings.foreign) {
            (0, None) => Self::Enlarged,
            _ => Self::Drawn,
        }
    }

    fn uri(self) -> &'static str {
        match self {
            Self::Drawn => "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
            Self::Enlarged => {
                "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
            }
        }
    }
}

const EASEL_NAMESPACE: &str = "urn:easel:picture:1#";

/// The packet, with `easel_json` inside where given.
///
/// `extended`: the GUID of a second packet that goes with this one
/// (JPEG only, where 64 KB do not suffice).
pub fn packet(source: Source, easel_json: Option<&str>, extended: Option<&str>) -> String {
    let record = easel_json.map_or_else(String::new, |json| {
        format!("<easel:settings>{}</easel:settings>", escape(json))
    });
    let pointer = extended.map_or_else(String::new, |guid| {
        format!("<xmpNote:HasExtendedXMP>{guid}</xmpNote:HasExtendedXMP>")
    });
    let source = format!(
        "<Iptc4xmpExt:DigitalSourceType>{}</Iptc4xmpExt:DigitalSourceType>",
        source.uri()
    );
    let body = rdf(&format!("{source}{pointer}{record}"));
    format!(
        "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>{body}<?xpacket end=\"w\"?>"
    )
}

/// The second packet: Easel's record alone.
pub fn extended_packet(easel_json: &str) -> String {
    rdf(&format!(
        "<easel:settings>{}</easel:settings>",
        escape(easel_json)
    ))
}

fn rdf(properties: &str) -> String {
    format!(
        "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\
         <rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\
         <rdf:Description rdf:about=\"\" \
         xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\" \
         xmlns:xmpNote=\"http://ns.adobe.com/xmp/note/\" \
         xmlns:easel=\"{EASEL_NAMESPACE}\">{properties}</rdf:Description>\
         </rdf:RDF></x:xmpmeta>"
    )
}

/// Easel's record in a packet, also where another program wrote the packet anew with the record as
/// an attribute.
pub fn easel_json(packet: &str) -> Option<String> {
    let element = between(packet, "<easel:settings>", "</easel:settings>");
    let escaped = element
        .or_else(|| between(packet, "easel:settings=\"", "\""))
        .or_else(|| between(packet, "easel:settings='", "'"))?;
    Some(unescape(escaped))
}

/// The text of a property, as element or attribute, in the first language where it is said in several.
pub fn property(packet: &str, name: &str) -> Option<String> {
    let element = between(packet, &format!("<{name}>"), &format!("</{name}>"));
    let text = match element {
        Some(element) => match between(element, "<rdf:li", "</rdf:li>") {
            Some(item) => item.split_once('>')?.1,
            None => element,
        },
        None => between(packet, &format!(" {name}=\""), "\"")
            .or_else(|| between(packet, &format!(" {name}='"), "'"))?,
    };
    Some(unescape(text).trim().to_owned())
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close)?.0)
}

/// JSON in XML: markup as entities, and the few characters that XML forbids in JSON's own escape.
fn escape(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + json.len() / 8);
    for character in json.chars() {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => text.push(other),
        }
    }
    text
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let entity = after.split_once(';').and_then(|(name, tail)| {
            let character = match name {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                "apos" => '\'',
                number => numeric_entity(number)?,
            };
            Some((character, tail))
        });
        match entity {
            Some((character, tail)) => {
                plain.push(character);
                rest = tail;
            }
            None => {
                plain.push('&');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

fn numeric_entity(name: &str) -> Option<char> {
    let number = name.strip_prefix('#')?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_json_comes_back_out_of_a_packet() {
        for json in [
            r#"{"prompt":"a & b < c > d \"e\" 'f' 中 🎨"}"#,
            r#"{"prompt":"]]> &amp; &#10; </easel:settings>"}"#,
            "{\"prompt\":\"\u{fffe}\u{ffff}\u{85}\u{7f}\"}",
        ] {
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            for packet in [
                packet(Source::Drawn, Some(json), None),
                extended_packet(json),
            ] {
                let back = easel_json(&packet).unwrap();
                assert_eq!(
                    serde_json::from_str::<serde_json::Value>(&back).unwrap(),
                    value
                );
            }
        }
        assert_eq!(easel_json(&packet(Source::Drawn, None, None)), None);
    }

    #[test]
    fn a_property_is_found_as_element_list_or_attribute() {
        for packet in [
            "<exif:UserComment>{&quot;c&quot;: 1}</exif:UserComment>",
            "<exif:UserComment>\n <rdf:Alt>\n  <rdf:li xml:lang=\"x-default\">{&quot;c&quot;: 1}</rdf:li>\n </rdf:Alt>\n</exif:UserComment>",
            "<rdf:Description exif:UserComment=\"{&quot;c&quot;: 1}\"/>",
            "<rdf:Description exif:UserComment='{\"c\": 1}'/>",
        ] {
            let found = property(packet, "exif:UserComment");
            assert_eq!(found.as_deref(), Some("{\"c\": 1}"), "{packet}");
        }
        assert_eq!(property("<exif:UserComment>", "exif:UserComment"), None);
    }

    #[test]
    fn a_packet_that_another_program_wrote_anew_is_read() {
        let packet = r#"<rdf:Description easel:settings="{&quot;a&quot;:&#34;&#x4e2d;&#34;}"/>"#;
        assert_eq!(easel_json(packet).as_deref(), Some(r#"{"a":"中"}"#));
    }
}
