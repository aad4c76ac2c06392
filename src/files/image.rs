//! An image file, for the readers of [`crate::iso`].

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt as _, FileTypeExt as _},
    path::Path,
    sync::OnceLock,
};

use crate::iso::{Fault, ReadAt};

/// An open image. Its size is that at the time of opening.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
    length: u64,
    /// The first read that failed.
    failed: OnceLock<Fault>,
}

impl ImageFile {
    /// Opens a file.
    ///
    /// # Errors
    /// Those of open(2); `InvalidInput` if it is not a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Opening a pipe would wait for its writer.
        refuse(&path.metadata()?)?;
        Self::new(File::open(path)?)
    }

    /// Uses an open file.
    ///
    /// # Errors
    /// Those of fstat(2); `InvalidInput` if it is not a regular file.
    pub fn new(file: File) -> io::Result<Self> {
        let about = file.metadata()?;
        refuse(&about)?;
        Ok(Self { file, length: about.len(), failed: OnceLock::new() })
    }

    /// What its readers made of it. If a read failed, that says nothing about the image: its disk or its server on the
    /// network may give it the next time.
    ///
    /// # Errors
    /// Theirs, or [`Fault::Read`].
    pub fn sound<T>(&self, made: Result<T, Fault>) -> Result<T, Fault> {
        self.failed.get().map_or(made, |fault| Err(fault.clone()))
    }
}

fn refuse(about: &Metadata) -> io::Result<()> {
    let why = match about.file_type() {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "it is a folder: name one of the images in it",
        kind if kind.is_block_device() => "it is a drive: copy it into a file, for example with dd",
        _ => "it is not a regular file: name the file of an image",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

impl ReadAt for ImageFile {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset).inspect_err(|error| {
            // An image that ends too early ends there the next time, too.
            if error.kind() != io::ErrorKind::UnexpectedEof {
                let _ = self.failed.set(Fault::Read { offset, error: error.to_string() });
            }
        })
    }
}
