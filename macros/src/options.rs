//! `with { … }`: named settings behind a receptor or a subscription.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::{Error, Expr, FieldValue, Ident, Member, Result, Token, braced};

use crate::name::place_of;

/// Settings by name, each at most once, each of a known name.
#[derive(Default)]
pub(crate) struct Options {
    settings: Vec<(Ident, Expr)>,
}

/// What can be set for a receptor: the fields of `ReceptorOptions`.
pub(crate) const OF_RECEPTOR: &[&str] = &["deadline", "retry_first", "retry_max", "jitter", "attempts_max"];
/// What can be set for a subscription.
pub(crate) const OF_SUBSCRIPTION: &[&str] = &["start", "on_dead"];

impl Options {
    /// Reads `with { name: value, … }`, if it stands here.
    pub(crate) fn parse(input: ParseStream<'_>, possible: &[&str]) -> Result<Self> {
        if !crate::dispatcher::next_is(input, "with") {
            return Ok(Self::default());
        }
        input.parse::<Ident>()?;
        let content;
        braced!(content in input);
        let mut options = Self::default();
        for field in Punctuated::<FieldValue, Token![,]>::parse_terminated(&content)? {
            let Member::Named(name) = field.member else {
                return Err(Error::new_spanned(field.member, "a setting is `name: value`"));
            };
            if !possible.contains(&name.to_string().as_str()) {
                let text = format!("`{name}` is no setting: {} are possible here", listed(possible));
                return Err(Error::new(name.span(), text));
            }
            if options.value_of(&name.to_string()).is_some() {
                return Err(Error::new(name.span(), format!("`{name}` is set twice")));
            }
            options.settings.push((name, field.expr));
        }
        Ok(options)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    pub(crate) fn value_of(&self, wanted: &str) -> Option<&Expr> {
        self.settings.iter().find(|(name, _)| name == wanted).map(|(_, value)| value)
    }

    /// A `&'static ReceptorOptions`, checked while compiling.
    pub(crate) fn of_receptor(&self) -> TokenStream {
        let settings = self.settings.iter().map(|(name, value)| quote!(#name: #value,));
        // The update of a struct of which every field is given is a lint of its own.
        let rest =
            (self.settings.len() < OF_RECEPTOR.len()).then(|| quote!(..::whizbang::ReceptorOptions::DEFAULT));
        // At the first setting, so that a value that cannot work is reported there.
        let place = self.settings.first().map_or_else(Span::call_site, |(name, _)| place_of(name.span()));
        quote_spanned! {place=>
            const { &::whizbang::ReceptorOptions { #(#settings)* #rest }.checked() }
        }
    }
}

/// "`a`, `b` and `c`".
pub(crate) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    match quoted.split_last() {
        None => "none".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}
