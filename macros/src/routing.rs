//! `Dispatcher::route`: from a stored message to its receptors, through an enum of their futures.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{GenericParam, Generics};

use crate::dispatcher::{Route, Table};
use crate::name::place_of;

/// The function. The enum of futures is local to it: one variant per line that may run, with the future's type as a
/// parameter, because futures have no names. It is as large as its largest variant; a plain receptor's is uninhabited.
pub(crate) fn route(table: &Table) -> TokenStream {
    let captured = captured(&table.item.generics);
    let lines: Vec<(usize, &Route)> = table
        .subscriptions
        .iter()
        .enumerate()
        .flat_map(|(number, subscription)| subscription.routes.iter().map(move |route| (number, route)))
        .filter(|(_, route)| !route.receptors.is_empty())
        .collect();
    let running = running(lines.len());
    let arms = lines.iter().enumerate().map(|(variant, (subscription, route))| {
        let (kind, message) = (route.kind as u16, &route.message);
        let start = start(route, variant);
        quote! {
            (#subscription, #kind) => {
                match <#message as ::whizbang::Message>::decode(
                    message.type_version,
                    message.content_type,
                    message.payload,
                ) {
                    ::core::result::Result::Ok(message) => #start,
                    ::core::result::Result::Err(error) => ::whizbang::dispatch::Routed::Undecodable(error),
                }
            }
        }
    });
    let otherwise = match lines.len() {
        0 => quote!(::whizbang::dispatch::Routed::<::whizbang::dispatch::Never<()>>::NotWanted),
        _ => quote!(::whizbang::dispatch::Routed::NotWanted),
    };
    quote! {
        #[allow(unused_variables, unused_mut, clippy::large_enum_variant)]
        fn route<'__a>(
            &'__a self,
            subscription: usize,
            kind: ::whizbang::dispatch::Kind,
            message: &::whizbang::dispatch::Handed<'_>,
            cx: ::whizbang::Context<'__a>,
        ) -> ::whizbang::dispatch::Routed<
            impl ::core::future::Future<Output = ::core::result::Result<(), ::whizbang::Failure>>
                + ::core::marker::Send + use<'__a, #captured>
        > {
            #running
            match (subscription, kind.0) {
                #(#arms)*
                _ => #otherwise,
            }
        }
    }
}

/// Starts the receptors of a decoded message.
fn start(route: &Route, variant: usize) -> TokenStream {
    let message = &route.message;
    let variant = format_ident!("R{variant}");
    if let [receptor] = &route.receptors[..] {
        let field = &receptor.field;
        let started = quote_spanned! {place_of(field.span())=>
            ::whizbang::dispatch::Receives::<#message, _>::start(&self.#field, message, cx)
        };
        return quote! {
            match #started {
                ::whizbang::dispatch::Started::Done(result) => {
                    ::whizbang::dispatch::Routed::Done(result.map(::core::mem::drop))
                }
                ::whizbang::dispatch::Started::Running(future) => {
                    ::whizbang::dispatch::Routed::Running(__Running::#variant { future })
                }
            }
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
            ::whizbang::dispatch::is_plain_receptor::<#message, _, _>(&self.#field)
        });
        now.push(quote_spanned! {place_of(field.span())=>
            ::whizbang::dispatch::receive_plain::<#message, _, _>(&self.#field, #own, cx.reborrow())
        });
        awaited.push(quote_spanned! {place_of(field.span())=>
            ::whizbang::dispatch::Receives::<#message, _>::start(&self.#field, #own, cx.reborrow()).finish().await
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
            ::whizbang::dispatch::Routed::Running(__Running::#variant {
                future: async move {
                    #(#awaited?;)*
                    ::core::result::Result::<(), ::whizbang::Failure>::Ok(())
                },
            })
        }
    }}
}

/// The enum of futures with so many variants.
fn running(variants: usize) -> TokenStream {
    if variants == 0 {
        return TokenStream::new();
    }
    let futures: Vec<_> = (0..variants).map(|number| format_ident!("R{number}")).collect();
    let replies: Vec<_> = (0..variants).map(|number| format_ident!("T{number}")).collect();
    quote! {
        ::whizbang::dispatch::pin_project! {
            #[project = __Projected]
            enum __Running<#(#futures),*> {
                #(#futures { #[pin] future: #futures },)*
            }
        }

        impl<#(#futures, #replies),*> ::core::future::Future for __Running<#(#futures),*>
        where
            #(#futures: ::core::future::Future<
                Output = ::core::result::Result<#replies, ::whizbang::Failure>,
            >,)*
        {
            type Output = ::core::result::Result<(), ::whizbang::Failure>;

            #[inline]
            fn poll(
                self: ::core::pin::Pin<&mut Self>,
                task: &mut ::core::task::Context<'_>,
            ) -> ::core::task::Poll<Self::Output> {
                match self.project() {
                    #(__Projected::#futures { future } => {
                        future.poll(task).map(|result| result.map(::core::mem::drop))
                    })*
                }
            }
        }
    }
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
