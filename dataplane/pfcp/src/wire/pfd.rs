//! Filters of applications (PFDs), and our form in which they name contents and packages.
//!
//! ```text
//! custom PFD   qlink-content=b3:<64 hexadecimal digits>      one line for each content
//!              qlink-package=pkg_<26 characters>             one line for each package
//! ```
//!
//! Source: TS 29.244 §7.4.3.1 and §8.2.39.

use qlink_types::ids::{ContentId, PackageId};

use super::defect::Fault;
use super::flow::{read_flow, write_flow};
use super::ie::{Group, Octets, Part, Value, Writer, part};
use super::numbers::IeType;
use super::values::flag;
use crate::model::{ApplicationId, SdfRule};

/// What a line of a custom PFD that names a content starts with.
pub const CONTENT_LINE: &str = "qlink-content=";

/// What a line of a custom PFD that names a package starts with.
pub const PACKAGE_LINE: &str = "qlink-package=";

/// The filters of one application, which replace those that it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationPfds {
    /// The application.
    pub application: ApplicationId,
    /// Its filters; without one, those that it had go.
    pub pfds: Vec<Pfd>,
}

/// One filter of an application: what is present has to match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pfd {
    /// A packet filter.
    pub flow: Option<PfdFlow>,
    /// A regular expression of URLs.
    pub url: Option<Vec<u8>>,
    /// A domain name.
    pub domain: Option<Vec<u8>>,
    /// What the standard leaves to the operator.
    pub custom: Option<CustomPfd>,
    /// The protocol in which the domain name is looked for.
    pub domain_protocol: Option<Vec<u8>>,
    /// Further packet filters; one of them suffices.
    pub more_flows: Vec<PfdFlow>,
    /// Further URLs.
    pub more_urls: Vec<Vec<u8>>,
    /// Further domain names with their protocols.
    pub more_domains: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A packet filter of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PfdFlow {
    /// What it matches.
    pub rule: SdfRule,
    /// Its text as it came; empty: the rule's own.
    pub text: String,
}

/// A custom PFD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustomPfd {
    /// Ours: the application is these contents.
    Contents(NamedContents),
    /// Another's.
    Other(Vec<u8>),
}

/// Contents of an application, by themselves or as parts of packages; at least one of either.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamedContents {
    /// Contents.
    pub contents: Vec<ContentId>,
    /// Packages.
    pub packages: Vec<PackageId>,
}

impl From<Vec<ContentId>> for NamedContents {
    fn from(contents: Vec<ContentId>) -> Self {
        Self {
            contents,
            packages: Vec::new(),
        }
    }
}

impl NamedContents {
    /// How many names.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.contents.len().saturating_add(self.packages.len())
    }

    /// Whether nothing is named.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in one line; `None` when it is none of ours.
    fn take(&mut self, line: &str) -> Option<()> {
        if let Some(content) = line.strip_prefix(CONTENT_LINE) {
            self.contents.push(content.parse().ok()?);
        } else {
            let package = line.strip_prefix(PACKAGE_LINE)?;
            self.packages.push(package.parse().ok()?);
        }
        Some(())
    }

    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let contents = self.contents.iter();
        let contents = contents.map(|content| format!("{CONTENT_LINE}{content}"));
        let packages = self.packages.iter();
        contents.chain(packages.map(|package| format!("{PACKAGE_LINE}{package}")))
    }
}

/// Whether a text is in our form, right or not.
fn is_ours(text: &[u8]) -> bool {
    text.starts_with(CONTENT_LINE.as_bytes()) || text.starts_with(PACKAGE_LINE.as_bytes())
}

impl CustomPfd {
    /// Ours where the text starts like ours: then it has to be right to its end.
    fn parse(text: &[u8]) -> Result<Self, Fault> {
        if !is_ours(text) {
            return Ok(Self::Other(text.to_vec()));
        }
        let text = std::str::from_utf8(text).map_err(|_| Fault::Incorrect)?;
        let mut named = NamedContents::default();
        for line in text.lines() {
            named.take(line).ok_or(Fault::Incorrect)?;
            if named.len() > super::MAX_RULES {
                return Err(Fault::TooMany);
            }
        }
        Ok(Self::Contents(named))
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Self::Other(text) => {
                if is_ours(text) {
                    out.fail();
                }
                out.bytes(text);
            }
            Self::Contents(named) => {
                if named.is_empty() || named.len() > super::MAX_RULES {
                    out.fail();
                }
                for (index, line) in named.lines().enumerate() {
                    if index > 0 {
                        out.u8(b'\n');
                    }
                    out.bytes(line.as_bytes());
                }
            }
        }
    }
}

impl Part for ApplicationPfds {
    fn take(group: &Group<'_>) -> Result<Self, Fault> {
        let contexts: Vec<Context> = group.list(IeType::PFD_CONTEXT)?;
        let pfds: Vec<Pfd> = contexts
            .into_iter()
            .flat_map(|context| context.pfds)
            .collect();
        if pfds.len() > super::MAX_RULES {
            return Err(Fault::Inside(Fault::TooMany.at(IeType::PFD_CONTENTS)));
        }
        Ok(Self {
            application: group.required(IeType::APPLICATION_ID)?,
            pfds,
        })
    }

    fn put(&self, out: &mut Writer) {
        let context = (!self.pfds.is_empty()).then(|| Context {
            pfds: self.pfds.clone(),
        });
        out.required(IeType::APPLICATION_ID, &self.application);
        out.optional(IeType::PFD_CONTEXT, &context);
    }
}

/// A PFD context: several say no more than one with all their filters.
struct Context {
    pfds: Vec<Pfd>,
}

part!(Context { pfds: some PFD_CONTENTS, });

fn read_text(octets: &mut Octets<'_>) -> Result<Vec<u8>, Fault> {
    octets.counted().map(<[u8]>::to_vec)
}

/// Entries to the end of a counted part.
fn read_all<T>(
    octets: &mut Octets<'_>,
    read: impl Fn(&mut Octets<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut inner = octets.inner()?;
    let mut entries = Vec::new();
    while !inner.is_empty() {
        entries.push(read(&mut inner)?);
        if entries.len() > super::MAX_RULES {
            return Err(Fault::TooMany);
        }
    }
    if entries.is_empty() {
        return Err(Fault::Incorrect);
    }
    Ok(entries)
}

fn read_pfd_flow(octets: &mut Octets<'_>) -> Result<PfdFlow, Fault> {
    read_flow(octets).map(|(rule, text)| PfdFlow { rule, text })
}

impl Value for Pfd {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        octets.u8()?;
        if flags == 0 {
            return Err(Fault::Incorrect);
        }
        let all = |flag: u8| flags & flag != 0;
        Ok(Self {
            flow: octets.when(flags & 0x01, read_pfd_flow)?,
            url: octets.when(flags & 0x02, read_text)?,
            domain: octets.when(flags & 0x04, read_text)?,
            custom: octets.when(flags & 0x08, |octets| CustomPfd::parse(octets.counted()?))?,
            domain_protocol: octets.when(flags & 0x10, read_text)?,
            more_flows: if all(0x20) {
                read_all(octets, read_pfd_flow)?
            } else {
                Vec::new()
            },
            more_urls: if all(0x40) {
                read_all(octets, read_text)?
            } else {
                Vec::new()
            },
            more_domains: if all(0x80) {
                read_all(octets, |octets| {
                    Ok((read_text(octets)?, read_text(octets)?))
                })?
            } else {
                Vec::new()
            },
        })
    }

    fn write(&self, out: &mut Writer) {
        let flags = flag(1, self.flow.is_some())
            | flag(2, self.url.is_some())
            | flag(3, self.domain.is_some())
            | flag(4, self.custom.is_some())
            | flag(5, self.domain_protocol.is_some())
            | flag(6, !self.more_flows.is_empty())
            | flag(7, !self.more_urls.is_empty())
            | flag(8, !self.more_domains.is_empty());
        if flags == 0 {
            out.fail();
        }
        out.u8(flags);
        out.u8(0);
        if let Some(flow) = &self.flow {
            write_flow(&flow.rule, &flow.text, out);
        }
        for text in [&self.url, &self.domain].into_iter().flatten() {
            out.counted(|out| out.bytes(text));
        }
        if let Some(custom) = &self.custom {
            out.counted(|out| custom.write(out));
        }
        if let Some(protocol) = &self.domain_protocol {
            out.counted(|out| out.bytes(protocol));
        }
        write_all(&self.more_flows, out, |flow, out| {
            write_flow(&flow.rule, &flow.text, out);
        });
        write_all(&self.more_urls, out, |url, out| {
            out.counted(|out| out.bytes(url));
        });
        write_all(&self.more_domains, out, |(domain, protocol), out| {
            out.counted(|out| out.bytes(domain));
            out.counted(|out| out.bytes(protocol));
        });
    }
}

fn write_all<T>(entries: &[T], out: &mut Writer, write: impl Fn(&T, &mut Writer)) {
    if !entries.is_empty() {
        out.counted(|out| entries.iter().for_each(|entry| write(entry, out)));
    }
}
