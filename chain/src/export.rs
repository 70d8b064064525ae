//! Every block with its receipts as JSON lines, so that anyone can rate again.

use std::io::{self, Write};
use std::path::Path;

use qlink_client::ChainClient;
use qlink_client::http::HttpError;
use qlink_client::rpc::BlockAnswer;
use qlink_store::{
    CHAIN_LAYOUT, FormatError, KEEP_VERSIONS, RocksStore, StateStore, StateStoreError,
};
use qlink_types::units::BlockHeight;

use crate::rpc::block_answer;

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The directory is no chain's.
    #[error("the data directory cannot be read")]
    Format(#[from] FormatError),
    /// The stored chain is damaged.
    #[error("the stored chain cannot be read")]
    State(#[from] StateStoreError),
    /// The node did not answer.
    #[error("the node cannot be asked")]
    Node(#[from] HttpError),
    /// A block that must exist does not.
    #[error("block {height} is missing")]
    Missing {
        /// Its height.
        height: BlockHeight,
    },
    /// The output cannot be written.
    #[error("the export cannot be written")]
    Write(#[from] io::Error),
}

/// Writes every block of a data directory, from genesis on; a node may be using it. Returns how
/// many there were.
///
/// # Errors
///
/// [`ExportError`] when the directory cannot be read or the output not written.
pub fn export_directory(directory: &Path, out: &mut dyn Write) -> Result<u64, ExportError> {
    let store = RocksStore::open_for_reading(directory, &CHAIN_LAYOUT)?;
    let state = StateStore::new(store, KEEP_VERSIONS)?;
    let mut height = BlockHeight::ZERO;
    while let Some(block) = block_answer(&state, height)? {
        write_line(&block, out)?;
        height = height.next();
    }
    out.flush()?;
    Ok(height.get())
}

/// Writes every final block of a node, from genesis up to where the chain stands at the call.
/// Returns how many there were.
///
/// # Errors
///
/// [`ExportError`] when the node cannot be asked or the output not written.
pub async fn export_node(
    client: &ChainClient,
    out: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    let last = client.status().await?.final_height;
    let mut height = BlockHeight::ZERO;
    while height <= last {
        let block = client.block(height).await?;
        write_line(&block.ok_or(ExportError::Missing { height })?, out)?;
        height = height.next();
    }
    out.flush()?;
    Ok(height.get())
}

fn write_line(block: &BlockAnswer, out: &mut dyn Write) -> Result<(), ExportError> {
    let mut line = serde_json::to_vec(block).map_err(io::Error::from)?;
    line.push(b'\n');
    out.write_all(&line)?;
    Ok(())
}
