//! `dispatcher!`: reading the table, checking it, and what is written for it.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Error, Fields, Ident, ItemStruct, LitStr, Result, Token, Type, braced};

use crate::name::place_of;
use crate::options::{OF_RECEPTOR, OF_SUBSCRIPTION, Options, listed};
use crate::{name, routing};

/// The name of what stands outside of any subscription.
const RECEPTORS: &str = "receptors";

/// What stands in a `dispatcher!`.
pub(crate) struct Table {
    pub(crate) item: ItemStruct,
    /// `"receptors"` first, the others in their order.
    pub(crate) subscriptions: Vec<Subscription>,
    /// Every message type once, in the order of appearance.
    pub(crate) types: Vec<Type>,
}

pub(crate) struct Subscription {
    name: LitStr,
    options: Options,
    pub(crate) routes: Vec<Route>,
}

/// One line: a message and its receptors.
pub(crate) struct Route {
    is_command: bool,
    pub(crate) message: Type,
    /// The message's place in `Table::types`.
    pub(crate) kind: usize,
    pub(crate) receptors: Vec<Receptor>,
    pub(crate) options: Options,
}

/// The field of a receptor.
pub(crate) struct Receptor {
    pub(crate) field: Ident,
    ty: Type,
}

impl Parse for Table {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let item: ItemStruct = input.parse()?;
        if !matches!(item.fields, Fields::Named(_)) {
            let text = "the receptors are named fields: `struct App { orders: Orders }`";
            return Err(Error::new(item.ident.span(), text));
        }
        let receptors = LitStr::new(RECEPTORS, Span::call_site());
        let first = Subscription { name: receptors, options: Options::default(), routes: Vec::new() };
        let mut table = Self { item, subscriptions: vec![first], types: Vec::new() };
        while !input.is_empty() {
            table.parse_item(input)?;
        }
        Ok(table)
    }
}

impl Table {
    fn parse_item(&mut self, input: ParseStream<'_>) -> Result<()> {
        if next_is(input, "subscription") {
            self.parse_subscription(input)
        } else if next_is(input, "command") || next_is(input, "event") {
            self.parse_route(input, 0)
        } else {
            Err(input.error("expected a line such as `command CreateOrder => orders;`, `event OrderCreated => mailer;` or `subscription \"totals\" { … }`"))
        }
    }

    fn parse_subscription(&mut self, input: ParseStream<'_>) -> Result<()> {
        input.parse::<Ident>()?;
        let name: LitStr = input.parse()?;
        name::check(&name)?;
        let options = Options::parse(input, OF_SUBSCRIPTION)?;
        let place = match name.value().as_str() {
            // It is there already, and takes its options here.
            RECEPTORS if self.subscriptions[0].options.is_empty() => {
                self.subscriptions[0].options = options;
                0
            }
            text if self.subscriptions.iter().any(|other| other.name.value() == text) => {
                let text = format!("there is a subscription {text:?} already: put its lines into that one");
                return Err(Error::new(name.span(), text));
            }
            _ => {
                self.subscriptions.push(Subscription { name, options, routes: Vec::new() });
                self.subscriptions.len() - 1
            }
        };
        let content;
        braced!(content in input);
        while !content.is_empty() {
            if place != 0 && next_is(&content, "command") {
                return Err(content.error(
                    "a command has one receptor and needs no subscription: move this line out of the braces",
                ));
            }
            if !next_is(&content, "event") && !next_is(&content, "command") {
                return Err(content.error("expected a line such as `event OrderCreated => totals;`"));
            }
            self.parse_route(&content, place)?;
        }
        Ok(())
    }

    fn parse_route(&mut self, input: ParseStream<'_>, subscription: usize) -> Result<()> {
        let is_command = input.parse::<Ident>()? == "command";
        let message = bare(input.parse()?);
        input.parse::<Token![=>]>()?;
        let mut receptors: Vec<Receptor> = Vec::new();
        while !input.peek(Token![;]) && !next_is(input, "with") {
            let receptor = self.receptor(input.parse()?)?;
            if receptors.iter().any(|other| other.field == receptor.field) {
                let text = format!("`{}` stands twice in this line", receptor.field);
                return Err(Error::new(receptor.field.span(), text));
            }
            receptors.push(receptor);
            if !input.peek(Token![,]) {
                break;
            }
            input.parse::<Token![,]>()?;
        }
        let options = Options::parse(input, OF_RECEPTOR)?;
        input.parse::<Token![;]>()?;

        let text = text_of(&message);
        if is_command && receptors.len() != 1 {
            let error = match receptors.len() {
                0 => format!("the command `{text}` needs a receptor: `command {text} => <field>;`"),
                _ => format!(
                    "the command `{text}` has several receptors: a command has exactly one, only an event may have more"
                ),
            };
            return Err(Error::new(
                receptors.get(1).map_or(message.span(), |second| second.field.span()),
                error,
            ));
        }
        let route = Route { is_command, kind: self.kind_of(&message), message, receptors, options };
        self.refuse_second(&route, subscription)?;
        self.subscriptions[subscription].routes.push(route);
        Ok(())
    }

    /// A second line for one message is a mistake that is best told here, at its place; one that hides behind another path
    /// of the same type is found by the compiler.
    fn refuse_second(&self, route: &Route, subscription: usize) -> Result<()> {
        let Some(first) =
            self.subscriptions[subscription].routes.iter().find(|other| other.kind == route.kind)
        else {
            return Ok(());
        };
        let text = text_of(&route.message);
        let error = if route.is_command {
            let field = &first.receptors[0].field;
            format!(
                "the command `{text}` has a receptor already, `{field}`: a command has exactly one, remove this line or the other"
            )
        } else {
            format!(
                "the event `{text}` has a line already: put all its receptors into that one, separated by commas"
            )
        };
        Err(Error::new(route.message.span(), error))
    }

    fn receptor(&self, field: Ident) -> Result<Receptor> {
        let named = |name: &Ident| self.item.fields.iter().find(|other| other.ident.as_ref() == Some(name));
        match named(&field) {
            Some(found) => Ok(Receptor { ty: found.ty.clone(), field }),
            None => {
                let names: Vec<String> = self
                    .item
                    .fields
                    .iter()
                    .filter_map(|field| field.ident.as_ref().map(Ident::to_string))
                    .collect();
                let text = format!(
                    "`{}` has no field `{field}`: its receptors are {}",
                    self.item.ident,
                    listed(&names)
                );
                Err(Error::new(field.span(), text))
            }
        }
    }

    fn kind_of(&mut self, message: &Type) -> usize {
        match self.types.iter().position(|known| known == message) {
            Some(place) => place,
            None => {
                self.types.push(message.clone());
                self.types.len() - 1
            }
        }
    }
}

/// Whether the next token is this word; the words of the table are no keywords of Rust.
pub(crate) fn next_is(input: ParseStream<'_>, word: &str) -> bool {
    input.cursor().ident().is_some_and(|(ident, _)| ident == word)
}

/// A type without the invisible brackets that it has when it comes out of another macro.
fn bare(ty: Type) -> Type {
    match ty {
        Type::Group(group) => bare(*group.elem),
        other => other,
    }
}

/// A type as its user wrote it.
pub(crate) fn text_of(ty: &Type) -> String {
    quote!(#ty).to_string().replace(' ', "")
}

/// Everything that is written for a table.
pub(crate) fn expand(table: &Table) -> Result<TokenStream> {
    let item = &table.item;
    let checks = checks(table);
    let commands = table.subscriptions[0].routes.iter().filter(|route| route.is_command);
    let commands = commands.map(|route| has_one_receptor(table, route));
    let invocations = invocations(table);
    let dispatcher = dispatcher(table);
    Ok(quote! {
        #item
        #checks
        #(#commands)*
        #invocations
        #dispatcher
    })
}

/// Each type is what its line says, and no two have one wire name.
fn checks(table: &Table) -> TokenStream {
    let kinds = table.subscriptions.iter().flat_map(|subscription| &subscription.routes).map(|route| {
        let message = &route.message;
        let check =
            Ident::new(if route.is_command { "assert_command" } else { "assert_event" }, message.span());
        quote_spanned!(place_of(message.span())=> const _: () = ::whizbang::dispatch::#check::<#message>();)
    });
    let types = table.types.iter().map(|message| {
        let rust = text_of(message);
        quote! {
            ::whizbang::dispatch::NamedType { name: <#message as ::whizbang::Message>::NAME, rust: #rust }
        }
    });
    let ident = &table.item.ident;
    quote_spanned! {place_of(ident.span())=>
        #(#kinds)*
        const _: () = ::whizbang::dispatch::assert_unique(&[#(#types),*]);
    }
}

/// That the command has its receptor, and, for those with a plain one, that it is plain.
///
/// Nothing here names the receptor's type where it would have to be public. The bound on it may be wrong without being an
/// error, because it stands behind a `for<…>`: then the command simply has no plain receptor.
fn has_one_receptor(table: &Table, route: &Route) -> TokenStream {
    let ident = &table.item.ident;
    let (impl_generics, type_generics, where_clause) = table.item.generics.split_for_impl();
    let (message, Receptor { field, ty }) = (&route.message, &route.receptors[0]);
    let given = where_clause.map(|clause| &clause.predicates).into_iter().flatten();
    // At the field's name, so that a receptor that does not receive this message is reported there.
    let receive = quote_spanned! {place_of(field.span())=>
        ::whizbang::dispatch::Receives::<#message, _>::receive_any(&dispatcher.#field, self, cx)
    };
    quote_spanned! {place_of(message.span())=>
        impl #impl_generics ::whizbang::HasOneReceptorIn<#ident #type_generics> for #message #where_clause {
            #[inline(always)]
            fn receive_in(
                self,
                dispatcher: &#ident #type_generics,
                cx: ::whizbang::Context<'_>,
            ) -> impl ::core::future::Future<
                Output = ::core::result::Result<<Self as ::whizbang::Message>::Reply, ::whizbang::Failure>,
            > + ::core::marker::Send {
                #receive
            }
        }

        impl #impl_generics ::whizbang::dispatch::HasOnePlainReceptorIn<#ident #type_generics> for #message
        where
            #(#given,)*
            for<'__any> #ty: ::whizbang::PlainReceptor<#message>,
        {
            #[inline(always)]
            fn receive_now_in(
                self,
                dispatcher: &#ident #type_generics,
                cx: ::whizbang::Context<'_>,
            ) -> ::core::result::Result<<Self as ::whizbang::Message>::Reply, ::whizbang::Failure> {
                <#ty as ::whizbang::PlainReceptor<#message>>::receive_now(&dispatcher.#field, self, cx)
            }
        }
    }
}

/// The methods of the struct itself.
fn invocations(table: &Table) -> TokenStream {
    let ItemStruct { ident, vis, generics, .. } = &table.item;
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let captured = routing::captured(generics);
    let future = quote! {
        impl ::core::future::Future<Output = ::core::result::Result<__C::Reply, ::whizbang::Failure>>
            + ::core::marker::Send + use<'__s, __C, #captured>
    };
    let result = quote!(::core::result::Result<__C::Reply, ::whizbang::Failure>);
    quote! {
        #[allow(dead_code, reason = "not every service uses all of them")]
        impl #impl_generics #ident #type_generics #where_clause {
            /// Calls the receptor of a command: a direct call, without an engine. What comes back is the receptor's own
            /// future.
            ///
            /// The receptor cannot publish, send, load or save: that needs an engine, or a unit
            /// ([`invoke_with`](Self::invoke_with)).
            ///
            /// # Errors
            /// What the receptor returns.
            #[inline]
            #vis fn invoke<'__s, __C>(&'__s self, command: __C) -> #future
            where
                __C: ::whizbang::HasOneReceptorIn<Self>,
            {
                command.receive_in(self, ::whizbang::Context::none())
            }

            /// Calls the receptor of a command, and collects in `unit` what it publishes and sends.
            ///
            /// # Errors
            /// What the receptor returns.
            #[inline]
            #vis fn invoke_with<'__s, __C>(&'__s self, command: __C, unit: &'__s mut ::whizbang::Unit) -> #future
            where
                __C: ::whizbang::HasOneReceptorIn<Self>,
            {
                command.receive_in(self, ::whizbang::Context::collecting(unit))
            }

            /// Calls the plain receptor of a command: no future, no `.await`.
            ///
            /// # Errors
            /// What the receptor returns.
            #[inline]
            #vis fn invoke_now<__C>(&self, command: __C) -> #result
            where
                __C: ::whizbang::dispatch::HasOnePlainReceptorIn<Self>,
            {
                command.receive_now_in(self, ::whizbang::Context::none())
            }

            /// Calls the plain receptor of a command, and collects in `unit` what it publishes and sends.
            ///
            /// # Errors
            /// What the receptor returns.
            #[inline]
            #vis fn invoke_now_with<__C>(&self, command: __C, unit: &mut ::whizbang::Unit) -> #result
            where
                __C: ::whizbang::dispatch::HasOnePlainReceptorIn<Self>,
            {
                command.receive_now_in(self, ::whizbang::Context::collecting(unit))
            }
        }
    }
}

fn dispatcher(table: &Table) -> TokenStream {
    let ident = &table.item.ident;
    let (impl_generics, type_generics, where_clause) = table.item.generics.split_for_impl();
    let subscriptions = table.subscriptions.iter().map(subscription_spec);
    let types = &table.types;
    let options = table.subscriptions.iter().enumerate().flat_map(|(number, subscription)| {
        let wanted = subscription.routes.iter().filter(|route| !route.receptors.is_empty());
        wanted.map(move |route| {
            let (kind, options) = (route.kind as u16, route.options.of_receptor());
            quote!((#number, #kind) => ::core::option::Option::Some(#options),)
        })
    });
    let route = routing::route(table);
    quote! {
        impl #impl_generics ::whizbang::Dispatcher for #ident #type_generics #where_clause {
            const SUBSCRIPTIONS: &'static [::whizbang::dispatch::SubscriptionSpec<'static>] = &[#(#subscriptions),*];

            const TYPES: &'static [::whizbang::dispatch::KnownType<'static>] = &[#(
                ::whizbang::dispatch::KnownType {
                    name: <#types as ::whizbang::Message>::NAME,
                    version_max: <#types as ::whizbang::Message>::VERSION,
                }
            ),*];

            #[inline]
            fn resolve(type_name: &str) -> ::core::option::Option<::whizbang::dispatch::Kind> {
                const NAMES: &[&str] = &[#(<#types as ::whizbang::Message>::NAME),*];
                const SLOTS: usize = ::whizbang::dispatch::NameTable::<0>::slots_for(NAMES.len());
                static TABLE: ::whizbang::dispatch::NameTable<SLOTS> = ::whizbang::dispatch::NameTable::new(NAMES);
                TABLE.find(type_name)
            }

            #[inline]
            fn options(
                subscription: usize,
                kind: ::whizbang::dispatch::Kind,
            ) -> ::core::option::Option<&'static ::whizbang::ReceptorOptions> {
                match (subscription, kind.0) {
                    #(#options)*
                    _ => ::core::option::Option::None,
                }
            }

            #route
        }
    }
}

fn subscription_spec(subscription: &Subscription) -> TokenStream {
    let name = &subscription.name;
    let or = |option: &str, default: TokenStream| match subscription.options.value_of(option) {
        Some(value) => quote!(#value),
        None => default,
    };
    let start = or("start", quote!(::whizbang::StartAt::First));
    let on_dead = or("on_dead", quote!(::whizbang::OnDead::Skip));
    let receptors = subscription.routes.iter().map(|route| route.options.of_receptor());
    quote! {
        ::whizbang::dispatch::SubscriptionSpec {
            name: #name,
            start: #start,
            on_dead: #on_dead,
            attempts_max: ::whizbang::dispatch::attempts_max_of(&[#(#receptors),*]),
        }
    }
}
