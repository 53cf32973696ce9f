//! An engine cannot start without a storage, nor with something that is none.

use whizbang::{Engine, dispatcher};

dispatcher! {
    struct Shop {}
}

async fn without() -> Result<(), Box<dyn std::error::Error>> {
    Engine::builder(Shop {}).start().await?;
    Ok(())
}

async fn with_a_path() -> Result<(), Box<dyn std::error::Error>> {
    Engine::builder(Shop {}).storage("shop.db").start().await?;
    Ok(())
}

fn main() {}
