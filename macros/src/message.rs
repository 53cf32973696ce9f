//! `#[derive(Command)]` and `#[derive(Event)]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Field, Fields, Ident, LitInt, LitStr, Member, Result, Type};

use crate::name::{self, place_of};

/// Which of the two is derived.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Command,
    Event,
}

/// The implementation of `Message`, and of `Command` or `Event`.
pub(crate) fn expand(input: &DeriveInput, kind: Kind) -> Result<TokenStream> {
    refuse_generics(input)?;
    refuse_references(input)?;
    let settings = Settings::of(input, kind)?;
    let stream = stream(input)?;

    let (ident, name, version) = (&input.ident, &settings.name, &settings.version);
    let of_kind = Ident::new(
        match kind {
            Kind::Command => "Command",
            Kind::Event => "Event",
        },
        ident.span(),
    );
    let content_type = Ident::new(settings.codec.content_type(), ident.span());
    let reply = settings.reply.as_ref().map_or_else(|| quote!(()), |reply| quote!(#reply));
    let decode = Ident::new(
        if settings.upcast_from.is_some() { "decode_upcasting" } else { "decode_current" },
        ident.span(),
    );
    // At the type's name, so that a missing `Serialize` is reported there.
    let encode = quote_spanned! {place_of(ident.span())=>
        ::whizbang::codec::encode(Self::NAME, Self::CONTENT_TYPE, self, out)
    };
    let decode = quote_spanned! {place_of(ident.span())=>
        ::whizbang::message::#decode::<#ident>(version, content_type, bytes)
    };
    let check = settings.upcast_from.as_ref().map(|previous| {
        quote_spanned! {place_of(previous.span())=>
            const _: () = ::whizbang::message::assert_upcast::<#ident, #previous>();
        }
    });
    Ok(quote! {
        #[automatically_derived]
        impl ::whizbang::Message for #ident {
            const NAME: &'static str = #name;
            const VERSION: u16 = #version;
            const KIND: ::whizbang::MessageKind = ::whizbang::MessageKind::#of_kind;
            const CONTENT_TYPE: ::whizbang::ContentType = ::whizbang::ContentType::#content_type;
            type Reply = #reply;

            fn stream(&self) -> ::core::option::Option<::whizbang::StreamId> {
                #stream
            }

            fn encode(
                &self,
                out: &mut impl ::whizbang::codec::Buffer,
            ) -> ::core::result::Result<(), ::whizbang::codec::EncodeError> {
                #encode
            }

            fn decode(
                version: u16,
                content_type: ::whizbang::ContentType,
                bytes: &[u8],
            ) -> ::core::result::Result<Self, ::whizbang::codec::DecodeError> {
                #decode
            }
        }

        #[automatically_derived]
        impl ::whizbang::#of_kind for #ident {}

        #check
    })
}

/// What stands in `#[message(…)]`.
struct Settings {
    name: LitStr,
    version: LitInt,
    reply: Option<Type>,
    codec: Codec,
    upcast_from: Option<Type>,
}

#[derive(Clone, Copy)]
enum Codec {
    Json,
    Postcard,
}

impl Codec {
    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Postcard => "POSTCARD",
        }
    }
}

impl Settings {
    fn of(input: &DeriveInput, kind: Kind) -> Result<Self> {
        let mut attributes = input.attrs.iter().filter(|attribute| attribute.path().is_ident("message"));
        let example = match kind {
            Kind::Command => "#[message(name = \"orders.create\", version = 1, reply = OrderNumber)]",
            Kind::Event => "#[message(name = \"orders.created\", version = 1)]",
        };
        let Some(attribute) = attributes.next() else {
            let ident = &input.ident;
            let text = format!("`{ident}` has no wire name and version: write `{example}` above it");
            return Err(Error::new(ident.span(), text));
        };
        if let Some(second) = attributes.next() {
            return Err(Error::new(
                second.path().span(),
                "one `#[message(…)]` is enough: put everything into the first",
            ));
        }
        let mut found = Found::default();
        attribute.parse_nested_meta(|meta| found.take(&meta, kind))?;
        found.complete(attribute, example)
    }
}

#[derive(Default)]
struct Found {
    name: Option<LitStr>,
    version: Option<LitInt>,
    reply: Option<Type>,
    codec: Option<Codec>,
    upcast_from: Option<Type>,
}

impl Found {
    fn take(&mut self, meta: &ParseNestedMeta<'_>, kind: Kind) -> Result<()> {
        let key = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
        match key.as_str() {
            "name" => {
                let name: LitStr = meta.value()?.parse()?;
                name::check(&name)?;
                once(&mut self.name, name, meta)
            }
            "version" => {
                let version: LitInt = meta.value()?.parse()?;
                match version.base10_parse::<u16>() {
                    Ok(1..) => once(&mut self.version, version, meta),
                    _ => Err(Error::new(version.span(), "a version is a number from 1 to 65535")),
                }
            }
            "reply" if kind == Kind::Event => {
                Err(meta
                    .error("an event has no reply: nobody waits for its receptors; only commands have one"))
            }
            "reply" => once(&mut self.reply, meta.value()?.parse()?, meta),
            "codec" => {
                let codec: Ident = meta.value()?.parse()?;
                let codec = match codec.to_string().as_str() {
                    "json" => Codec::Json,
                    "postcard" => Codec::Postcard,
                    _ => {
                        return Err(Error::new(
                            codec.span(),
                            "`json` and `postcard` are the codecs there are",
                        ));
                    }
                };
                once(&mut self.codec, codec, meta)
            }
            "upcast_from" => once(&mut self.upcast_from, meta.value()?.parse()?, meta),
            _ => Err(meta.error("`name`, `version`, `reply`, `codec` and `upcast_from` are possible here")),
        }
    }

    fn complete(self, attribute: &Attribute, example: &str) -> Result<Settings> {
        let missing = |what| Error::new(attribute.path().span(), format!("`{what}` is missing: `{example}`"));
        Ok(Settings {
            name: self.name.ok_or_else(|| missing("name"))?,
            version: self.version.ok_or_else(|| missing("version"))?,
            reply: self.reply,
            codec: self.codec.unwrap_or(Codec::Json),
            upcast_from: self.upcast_from,
        })
    }
}

fn once<T>(place: &mut Option<T>, value: T, meta: &ParseNestedMeta<'_>) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(meta.error("it is set twice")),
    }
}

/// The body of `fn stream`.
fn stream(input: &DeriveInput) -> Result<TokenStream> {
    let mut marked = all_fields(input).filter_map(|(member, field)| {
        field.attrs.iter().find(|a| a.path().is_ident("stream")).map(|a| (member, field, a))
    });
    let Some((member, field, attribute)) = marked.next() else {
        return Ok(quote!(::core::option::Option::None));
    };
    if let Some((_, _, second)) = marked.next() {
        return Err(Error::new(
            second.path().span(),
            "a message belongs to one stream: there is a `#[stream]` already",
        ));
    }
    if let Data::Enum(_) = input.data {
        let text = "`#[stream]` stands on the field of a struct; for an enum, implement `Message` by hand";
        return Err(Error::new(attribute.path().span(), text));
    }
    attribute.meta.require_path_only()?;
    Ok(quote_spanned! {place_of(field.ty.span())=>
        ::core::option::Option::Some(::whizbang::StreamKey::stream_id(&self.#member))
    })
}

fn refuse_generics(input: &DeriveInput) -> Result<()> {
    match input.generics.params.first() {
        None => Ok(()),
        Some(parameter @ syn::GenericParam::Lifetime(_)) => Err(Error::new(
            parameter.span(),
            "a message owns its data, because it outlives the place it was made in: no lifetimes, `String` instead of `&str`",
        )),
        Some(parameter) => Err(Error::new(
            parameter.span(),
            "a message has no parameters, because its wire name stands for one shape: write a type for each",
        )),
    }
}

fn refuse_references(input: &DeriveInput) -> Result<()> {
    match all_fields(input).find(|(_, field)| matches!(field.ty, Type::Reference(_))) {
        None => Ok(()),
        Some((_, field)) => Err(Error::new(
            field.ty.span(),
            "a message owns its data, because it outlives the place it was made in: `String` instead of `&str`",
        )),
    }
}

fn all_fields(input: &DeriveInput) -> impl Iterator<Item = (Member, &Field)> {
    let fields: Vec<&Fields> = match &input.data {
        Data::Struct(data) => vec![&data.fields],
        Data::Enum(data) => data.variants.iter().map(|variant| &variant.fields).collect(),
        // Serialize cannot be derived for a union either, and says so.
        Data::Union(_) => Vec::new(),
    };
    fields.into_iter().flat_map(|fields| fields.members().zip(fields))
}
