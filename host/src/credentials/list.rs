//! The text of a file of entries, a line each, that people edit too: `#` begins a comment, an empty line is one. What
//! is not changed stays as it is, to the byte.
//!
//! Any bytes are read or refused with the number of the line. No error quotes a line: there may be a secret in it.

use std::collections::HashMap;
use std::fmt::Display;

/// What one line says. It is displayed as it stands in the file.
pub trait Entry: Display + Sized {
    /// Reads the words of a line.
    ///
    /// # Errors
    /// What is wrong, without a word of the line.
    fn parse(words: &[&str]) -> Result<Self, String>;

    /// No other entry of the file has it.
    fn name(&self) -> &str;
}

/// All lines of a file.
#[derive(Debug)]
pub struct List<E> {
    lines: Vec<Line<E>>,
    /// Where each entry stands in `lines`.
    places: HashMap<String, usize>,
}

#[derive(Debug)]
struct Line<E> {
    /// With its end; nothing where a line was removed.
    text: String,
    entry: Option<E>,
}

/// A line that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ListError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl<E> Default for List<E> {
    fn default() -> Self {
        Self { lines: Vec::new(), places: HashMap::new() }
    }
}

impl<E: Entry> List<E> {
    /// Reads a file's bytes.
    ///
    /// # Errors
    /// [`ListError`] for the first line that cannot be.
    pub fn read(bytes: &[u8]) -> Result<Self, ListError> {
        let mut list = Self::default();
        for (at, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            list.push(line).map_err(|reason| ListError { line: at + 1, reason })?;
        }
        Ok(list)
    }

    fn push(&mut self, line: &[u8]) -> Result<(), String> {
        let text = str::from_utf8(line).map_err(|_| "is not UTF-8")?;
        let words: Vec<_> = before_comment(text).split_ascii_whitespace().collect();
        let entry = if words.is_empty() { None } else { Some(E::parse(&words)?) };
        if let Some(entry) = &entry
            && let Some(other) = self.places.insert(entry.name().to_owned(), self.lines.len())
        {
            return Err(format!("{} stands in line {} already", entry.name(), other + 1));
        }
        self.lines.push(Line { text: text.to_owned(), entry });
        Ok(())
    }

    /// The file's bytes.
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| line.text.as_str()).collect()
    }

    /// Every entry, in the order of the lines.
    pub fn entries(&self) -> impl Iterator<Item = &E> {
        self.lines.iter().filter_map(|line| line.entry.as_ref())
    }

    /// The entry of that name.
    pub fn get(&self, name: &str) -> Option<&E> {
        self.places.get(name).and_then(|at| self.lines[*at].entry.as_ref())
    }

    /// Adds a line at the end.
    ///
    /// # Errors
    /// [`ListError`] when there is one of that name.
    pub fn add(&mut self, entry: E) -> Result<(), ListError> {
        if let Some(at) = self.places.get(entry.name()) {
            let reason = format!("{} is there already", entry.name());
            return Err(ListError { line: at + 1, reason });
        }
        if let Some(last) = self.lines.last_mut()
            && !last.text.is_empty()
            && !last.text.ends_with('\n')
        {
            last.text.push('\n');
        }
        self.places.insert(entry.name().to_owned(), self.lines.len());
        self.lines.push(Line { text: format!("{entry}\n"), entry: Some(entry) });
        Ok(())
    }

    /// Puts an entry in the place of the one of the same name, whose comment stays; false when there is none.
    pub fn replace(&mut self, entry: E) -> bool {
        let Some(at) = self.places.get(entry.name()) else { return false };
        let line = &mut self.lines[*at];
        let comment = &line.text[before_comment(&line.text).len()..];
        let gap = if comment.is_empty() { "\n" } else { " " };
        line.text = format!("{entry}{gap}{comment}");
        line.entry = Some(entry);
        true
    }

    /// Takes a line out; false when there is none of that name.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(at) = self.places.remove(name) else { return false };
        self.lines[at] = Line { text: String::new(), entry: None };
        true
    }
}

fn before_comment(text: &str) -> &str {
    text.split('#').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt;

    use proptest::prelude::*;

    use super::*;

    /// A name and a number.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Numbered(String, u32);

    impl fmt::Display for Numbered {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} {}", self.0, self.1)
        }
    }

    impl Entry for Numbered {
        fn parse(words: &[&str]) -> Result<Self, String> {
            let [name, number] = words else { return Err("wants a name and a number".into()) };
            Ok(Self((*name).to_owned(), number.parse().map_err(|_| "has no number".to_owned())?))
        }

        fn name(&self) -> &str {
            &self.0
        }
    }

    fn read(text: &str) -> List<Numbered> {
        List::read(text.as_bytes()).unwrap()
    }

    fn entry(name: &str, number: u32) -> Numbered {
        Numbered(name.to_owned(), number)
    }

    #[test]
    fn comments_order_and_spaces_stay_where_nothing_is_changed() {
        let text = "# all of them\n\n  b   2\r\na 1 # in the cellar\n\t# more\nc 3";
        let mut list = read(text);
        assert_eq!(list.text(), text);
        assert!(list.replace(entry("a", 7)) && list.remove("b"));
        list.add(entry("d", 4)).unwrap();
        assert_eq!(list.text(), "# all of them\n\na 7 # in the cellar\n\t# more\nc 3\nd 4\n");
        assert_eq!(list.entries().map(Entry::name).collect::<Vec<_>>(), ["a", "c", "d"]);
        assert!(!list.replace(entry("b", 1)) && !list.remove("b"));
        list.add(entry("b", 5)).unwrap();
        assert_eq!(list.get("b"), Some(&entry("b", 5)));
    }

    #[test]
    fn an_error_names_the_line_and_quotes_none() {
        for (text, error) in [
            ("a 1\nb secret\n", "line 2: has no number"),
            ("\n\nsecret", "line 3: wants a name and a number"),
            ("a 1\n# a\na 2\n", "line 3: a stands in line 1 already"),
        ] {
            assert_eq!(List::<Numbered>::read(text.as_bytes()).unwrap_err().to_string(), error);
        }
        let error = List::<Numbered>::read(b"a 1\n# \xff\n").unwrap_err();
        assert_eq!(error.to_string(), "line 2: is not UTF-8");
        let error = read("# first\na 1\n").add(entry("a", 2)).unwrap_err();
        assert_eq!(error.to_string(), "line 2: a is there already");
    }

    /// What is done to a list.
    #[derive(Clone, Debug)]
    enum Step {
        Add(String, u32),
        Replace(String, u32),
        Remove(String),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            ("[a-d]", any::<u32>()).prop_map(|(name, number)| Step::Add(name, number)),
            ("[a-d]", any::<u32>()).prop_map(|(name, number)| Step::Replace(name, number)),
            "[a-d]".prop_map(Step::Remove),
        ];
        prop::collection::vec(step, 0..20)
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_as_they_are_or_refused(bytes in any::<Vec<u8>>()) {
            if let Ok(list) = List::<Numbered>::read(&bytes) {
                assert_eq!(list.text().as_bytes(), bytes);
            }
        }

        #[test]
        fn any_text_like_a_list_is_read_as_it_is_or_refused(text in "([a-c ]{0,3}[0-9]{0,2}[ \t\r\n#]{0,3}){0,8}") {
            if let Ok(list) = List::<Numbered>::read(text.as_bytes()) {
                assert_eq!(list.text(), text);
            }
        }

        #[test]
        fn what_is_written_is_read_back(steps in steps(), begin in "(#[a-z \r]{0,5}\n|\n|x 1 ?(#.{0,3})?\n){0,1}(x2 2)?") {
            let mut list = read(&begin);
            let mut expected: BTreeMap<_, _> =
                list.entries().map(|entry| (entry.0.clone(), entry.1)).collect();
            for step in steps {
                match step {
                    Step::Add(name, number) => {
                        let is_new = !expected.contains_key(&name);
                        assert_eq!(list.add(entry(&name, number)).is_ok(), is_new);
                        expected.entry(name).or_insert(number);
                    }
                    Step::Replace(name, number) => {
                        assert_eq!(list.replace(entry(&name, number)), expected.contains_key(&name));
                        expected.entry(name).and_modify(|old| *old = number);
                    }
                    Step::Remove(name) => {
                        assert_eq!(list.remove(&name), expected.remove(&name).is_some());
                    }
                }
            }
            let again = read(&list.text());
            let found: BTreeMap<_, _> = again.entries().map(|entry| (entry.0.clone(), entry.1)).collect();
            assert_eq!(found, expected);
            let order = |list: &List<Numbered>| list.entries().cloned().collect::<Vec<_>>();
            assert_eq!(order(&again), order(&list));
        }
    }
}
