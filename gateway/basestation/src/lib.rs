//! BaseStation agent: forwards subscriber traffic as GTP-U, signs session opens and receipts.
#![forbid(unsafe_code)]
