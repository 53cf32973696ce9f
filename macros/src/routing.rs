//! `Dispatcher::route`: from a stored message to its receptors, through an enum of their futures.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{GenericParam, Generics, parse_quote};

use crate::dispatcher::{Route, Table};
use crate::name::place_of;

/// Variants of `OneOf`.
const ARITY: usize = 16;

/// The function: a `match` with an arm for each line. What has to be awaited is one type, a tree of `OneOf` with the
/// future of each line as a leaf; futures have no names, so the compiler works out which.
///
/// Each line is a function of its own, and so is each node of the tree: the compiler's work grows much faster than what is
/// unknown in one function, and two hundred lines in one took it a minute.
pub(crate) fn route(table: &Table) -> TokenStream {
    let mut functions = Vec::new();
    let mut nodes: Vec<Node> = Vec::new();
    for (number, subscription) in table.subscriptions.iter().enumerate() {
        for route in subscription.routes.iter().filter(|route| !route.receptors.is_empty()) {
            let (name, kind) = (format_ident!("line_{}", nodes.len()), route.kind as u16);
            functions.push(line(table, route, &name));
            let patterns = vec![quote!((#number, #kind))];
            nodes.push(Node { call: quote!(#name), arguments: quote!(message, cx), patterns });
        }
    }
    for level in 1.. {
        if nodes.len() <= ARITY {
            break;
        }
        let group = |(number, below): (usize, &[Node])| {
            let name = format_ident!("node_{level}_{number}");
            functions.push(node(table, below, &name));
            let patterns = below.iter().flat_map(|node| node.patterns.clone()).collect();
            Node { call: quote!(#name), arguments: quote!(subscription, kind, message, cx), patterns }
        };
        nodes = nodes.chunks(ARITY).enumerate().map(group).collect();
    }
    let (routed, body) = (routed(table), body(&nodes, &quote!(self)));
    quote! {
        #[inline]
        fn route<'__a>(
            &'__a self,
            subscription: usize,
            kind: ::whizbang::dispatch::Kind,
            message: &::whizbang::dispatch::Handed<'_>,
            cx: ::whizbang::Context<'__a>,
        ) -> #routed {
            #(#functions)*
            #body
        }
    }
}

/// A function to call for some subscriptions and kinds.
struct Node {
    call: TokenStream,
    arguments: TokenStream,
    patterns: Vec<TokenStream>,
}

/// Calls the one of at most sixteen functions that is for this subscription and kind.
fn body(nodes: &[Node], dispatcher: &TokenStream) -> TokenStream {
    if nodes.is_empty() {
        return quote!({
            let _ = (subscription, kind, message, cx);
            ::whizbang::dispatch::Routed::<::whizbang::dispatch::Never<()>>::NotWanted
        });
    }
    let arms = nodes.iter().enumerate().map(|(number, Node { call, arguments, patterns })| {
        let variant = format_ident!("V{number}");
        quote! {
            #(#patterns)|* => {
                #call(#dispatcher, #arguments).map(|future| ::whizbang::dispatch::OneOf::#variant { future })
            }
        }
    });
    let futures = nodes.iter().map(|_| quote!(_));
    quote! {
        match (subscription, kind.0) {
            #(#arms)*
            _ => ::whizbang::dispatch::Routed::<::whizbang::dispatch::OneOf<#(#futures),*>>::NotWanted,
        }
    }
}

/// The function of a node: one of the functions below it.
fn node(table: &Table, below: &[Node], name: &Ident) -> TokenStream {
    let parameters = quote! {
        subscription: usize,
        kind: ::whizbang::dispatch::Kind,
    };
    function(table, name, &parameters, &body(below, &quote!(dispatcher)))
}

/// The function of a line: decodes the message, and starts its receptors.
fn line(table: &Table, route: &Route, name: &Ident) -> TokenStream {
    let (message, start) = (&route.message, start(route));
    let body = quote! {
        match ::whizbang::dispatch::decode::<#message>(message) {
            ::core::result::Result::Ok(message) => #start,
            ::core::result::Result::Err(error) => ::whizbang::dispatch::Routed::Undecodable(error),
        }
    };
    function(table, name, &TokenStream::new(), &body)
}

/// A function inside of `route`. It sees nothing of the `impl` around it, so it has the table's parameters itself.
fn function(table: &Table, name: &Ident, parameters: &TokenStream, body: &TokenStream) -> TokenStream {
    let (ident, routed) = (&table.item.ident, routed(table));
    let (_, type_generics, where_clause) = table.item.generics.split_for_impl();
    let mut generics = table.item.generics.clone();
    generics.params.insert(0, parse_quote!('__a));
    let (impl_generics, ..) = generics.split_for_impl();
    quote! {
        #[inline(always)]
        fn #name #impl_generics (
            dispatcher: &'__a #ident #type_generics,
            #parameters
            message: &::whizbang::dispatch::Handed<'_>,
            cx: ::whizbang::Context<'__a>,
        ) -> #routed
        #where_clause
        {
            #body
        }
    }
}

/// What all these functions return.
fn routed(table: &Table) -> TokenStream {
    let captured = captured(&table.item.generics);
    quote! {
        ::whizbang::dispatch::Routed<
            impl ::core::future::Future<Output = ::core::result::Result<(), ::whizbang::Failure>>
                + ::core::marker::Send + use<'__a, #captured>
        >
    }
}

/// Starts the receptors of a decoded message.
fn start(route: &Route) -> TokenStream {
    let message = &route.message;
    if let [receptor] = &route.receptors[..] {
        let field = &receptor.field;
        return quote_spanned! {place_of(field.span())=>
            ::whizbang::dispatch::Receives::<#message, _>::start(&dispatcher.#field, message, cx).routed()
        };
    }
    // Several: one after the other in one unit. All but the last get a copy of the message.
    let last = route.receptors.len() - 1;
    let (mut plain, mut now, mut awaited) = (Vec::new(), Vec::new(), Vec::new());
    for (number, receptor) in route.receptors.iter().enumerate() {
        let field = &receptor.field;
        let own = if number == last {
            quote!(message)
        } else {
            quote_spanned!(place_of(message.span())=> ::whizbang::dispatch::copy_for_next_receptor(&message))
        };
        plain.push(quote_spanned! {place_of(field.span())=>
            ::whizbang::dispatch::is_plain_receptor::<#message, _, _>(&dispatcher.#field)
        });
        now.push(quote_spanned! {place_of(field.span())=>
            ::whizbang::dispatch::receive_plain::<#message, _, _>(&dispatcher.#field, #own, cx.reborrow())
        });
        awaited.push(quote_spanned! {place_of(field.span())=>
            ::whizbang::dispatch::Receives::<#message, _>::start(&dispatcher.#field, #own, cx.reborrow())
                .finish()
                .await
        });
    }
    quote! {{
        let mut cx = cx;
        if #(#plain)&&* {
            ::whizbang::dispatch::Routed::Done('__all: {
                #(
                    if let ::core::result::Result::Err(failure) = #now {
                        break '__all ::core::result::Result::Err(failure);
                    }
                )*
                ::core::result::Result::Ok(())
            })
        } else {
            ::whizbang::dispatch::Routed::Running(async move {
                #(#awaited?;)*
                ::core::result::Result::<(), ::whizbang::Failure>::Ok(())
            })
        }
    }}
}

/// The parameters of the struct, as `use<…>` lists them.
pub(crate) fn captured(generics: &Generics) -> TokenStream {
    let names = generics.params.iter().map(|parameter| match parameter {
        GenericParam::Lifetime(lifetime) => {
            let lifetime = &lifetime.lifetime;
            quote!(#lifetime)
        }
        GenericParam::Type(ty) => {
            let ident = &ty.ident;
            quote!(#ident)
        }
        GenericParam::Const(constant) => {
            let ident = &constant.ident;
            quote!(#ident)
        }
    });
    quote!(#(#names),*)
}
