//! An image file, for the readers of [`crate::iso`].

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use crate::iso::ReadAt;

/// An open image. Its size is that at the time of opening.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
    length: u64,
}

impl ImageFile {
    /// Opens a file.
    ///
    /// # Errors
    /// Those of open(2); `InvalidInput` if it is not a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(File::open(path)?)
    }

    /// Uses an open file.
    ///
    /// # Errors
    /// Those of fstat(2); `InvalidInput` if it is not a regular file.
    pub fn new(file: File) -> io::Result<Self> {
        let about = file.metadata()?;
        match about.is_file() {
            true => Ok(Self { file, length: about.len() }),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
        }
    }
}

impl ReadAt for ImageFile {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}
