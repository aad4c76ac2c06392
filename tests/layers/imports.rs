//! Which file imports which, read from the syntax tree: `use` lines, and paths within code and macros. Tests are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, Item, ItemUse, Macro, UseTree,
    visit::{self, Visit},
};

/// The names of a module behind `crate`.
pub(crate) type Module = Vec<String>;

/// A source file.
pub(crate) struct Source {
    /// Below `src`, with slashes.
    pub(crate) path: String,
    /// Its text without comments that fill a line.
    pub(crate) code: String,
    /// What it is behind `crate`; `lib.rs` is the empty path.
    pub(crate) module: Module,
    syntax: syn::File,
}

/// Every source file of the library, in the order of their paths.
pub(crate) fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let (below, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
        folders.extend(below);
        let rust = files.iter().filter(|file| file.extension().is_some_and(|ending| ending == "rs"));
        sources.extend(rust.map(|file| source(&root, file)));
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 20, "the sources were not found");
    sources
}

fn source(root: &Path, file: &Path) -> Source {
    let text = fs::read_to_string(file).expect("a source file");
    let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let path = file.strip_prefix(root).expect("below src").display().to_string();
    let mut module: Module = path.trim_end_matches(".rs").split('/').map(String::from).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    Source { path, code: code.join("\n"), module, syntax }
}

/// The files that each file imports. Neither `mod x;` nor an import of the file itself is one.
pub(crate) fn imports(sources: &[Source]) -> BTreeMap<&str, BTreeSet<&str>> {
    let files: BTreeMap<&[String], &str> =
        sources.iter().map(|source| (source.module.as_slice(), source.path.as_str())).collect();
    let mut imports = BTreeMap::new();
    for source in sources {
        let mut paths = Paths { module: source.module.clone(), files: &files, found: BTreeSet::new() };
        paths.visit_file(&source.syntax);
        paths.found.remove(source.path.as_str());
        imports.insert(source.path.as_str(), paths.found);
    }
    imports
}

/// Collects what the paths of one file lead to.
struct Paths<'a, 'f> {
    module: Module,
    files: &'f BTreeMap<&'a [String], &'a str>,
    found: BTreeSet<&'a str>,
}

impl Paths<'_, '_> {
    fn follow(&mut self, path: &[String]) {
        let Some(mut full) = self.behind_crate(path) else { return };
        // What is behind the last module is an item of it.
        while !full.is_empty() && !self.files.contains_key(full.as_slice()) {
            full.pop();
        }
        self.found.extend(self.files.get(full.as_slice()).copied());
    }

    /// The path behind `crate`; none where it leads to another crate, or to a name that a `use` line brought.
    fn behind_crate(&self, path: &[String]) -> Option<Module> {
        let mut base = self.module.clone();
        let (first, mut rest) = path.split_first()?;
        match first.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                base.pop();
                while let Some(("super", behind)) = rest.split_first().map(|(name, behind)| (name.as_str(), behind)) {
                    base.pop();
                    rest = behind;
                }
            }
            child => {
                base.push(child.to_owned());
                self.files.get(base.as_slice())?;
            }
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    fn follow_use(&mut self, tree: &UseTree, before: &mut Module) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.follow_use(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.follow_use(tree, before)),
            UseTree::Name(name) if name.ident == "self" => self.follow(before),
            UseTree::Name(name) => self.follow(&[before.as_slice(), &[name.ident.to_string()]].concat()),
            UseTree::Rename(name) => self.follow(&[before.as_slice(), &[name.ident.to_string()]].concat()),
            UseTree::Glob(_) => self.follow(before),
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_, '_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !attributes.iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.follow_use(&item.tree, &mut Vec::new());
    }

    /// `pub(in crate::daemon)` says who may see an item, and imports nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1 {
            self.follow(&names);
        }
        visit::visit_path(self, path);
    }

    /// The body of a macro is no syntax tree: paths are read from its text.
    fn visit_macro(&mut self, item: &'ast Macro) {
        let body = item.tokens.to_string().replace(" :: ", "::");
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for path in body.split(|c| !is_part(c)).filter(|path| path.contains("::")) {
            self.follow(&path.split("::").map(String::from).collect::<Vec<_>>());
        }
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
}

/// Files that import each other, directly or by way of others: each circle is a set of files, and no file is in two.
pub(crate) fn circles<'a>(imports: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<BTreeSet<&'a str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = imports.keys().map(|file| (*file, reached(imports, file))).collect();
    let leads_to = |from: &str, to: &str| reached.get(from).is_some_and(|reached| reached.contains(to));
    let mut circles: Vec<BTreeSet<&str>> = Vec::new();
    for (file, from_here) in &reached {
        let circle: BTreeSet<&str> = from_here.iter().filter(|other| leads_to(other, file)).copied().collect();
        if !circle.is_empty() && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

fn reached<'a>(imports: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = imports.get(from).into_iter().flatten().copied().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(imports.get(file).into_iter().flatten());
        }
    }
    reached
}
