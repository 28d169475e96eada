//! Reads the pickle inside a torch file without running any of it.
//!
//! A pickle is a program for a stack machine that can call whatever Python can import. This reader
//! knows the few instructions that `torch.save` writes and a list of names; a call makes a plain value
//! here, never a call, and any other name or instruction is an error that names it. Time and memory are
//! bounded by the pickle's length: values are numbers of an arena, so that neither shared nor deeply
//! nested ones cost more than the bytes they are written with.
//!
//! Source: CPython's `pickletools.py`; torch 2.13 `_weights_only_unpickler.py` and `_utils.py`
//! (`_rebuild_tensor_v2`).

use std::collections::HashMap;

use safetensors::Dtype;

/// Storages have short names; every tensor has a copy of one.
const MAX_KEY_BYTES: usize = 64;

/// What was pickled: all values, and which of them is the whole.
pub(super) struct Pickled {
    nodes: Vec<Node>,
    root: Id,
    /// Bytes read: files of before torch 1.6 hold several pickles one after another.
    pub length: usize,
}

/// A tensor as the pickle describes it; nothing of it is checked against the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PickledTensor {
    pub storage: String,
    pub dtype: Dtype,
    /// In elements.
    pub offset: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
}

/// A value's number in the arena.
type Id = usize;

#[derive(Clone, Debug)]
enum Node {
    None,
    Int(i64),
    Text(String),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    /// Keys and values in turn.
    Dict(Vec<Id>),
    /// A dictionary that is an object of torch's: its entries are those of this one.
    Parameters(Id),
    Storage(String, Dtype),
    Tensor(PickledTensor),
    Name(Known),
    /// A value that says nothing about tensors: floats, bytes, objects of other libraries.
    Other,
}

/// The names that a pickle may use.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    RebuildTensor,
    RebuildParameter,
    OrderedDict,
    Storage(Dtype),
    /// Notes of the training that lie beside the weights; their values are dropped.
    Inert,
}

fn known(module: &str, name: &str) -> Option<Known> {
    let storage = |dtype| Some(Known::Storage(dtype));
    match (module, name) {
        ("torch._utils", "_rebuild_tensor_v2") => Some(Known::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Some(Known::RebuildParameter),
        ("collections", "OrderedDict")
        // What the first textual inversions keep their vectors in.
        | ("torch.nn.modules.container", "ParameterDict") => Some(Known::OrderedDict),
        ("torch", "DoubleStorage") => storage(Dtype::F64),
        ("torch", "FloatStorage") => storage(Dtype::F32),
        ("torch", "HalfStorage") => storage(Dtype::F16),
        ("torch", "BFloat16Storage") => storage(Dtype::BF16),
        ("torch", "LongStorage") => storage(Dtype::I64),
        ("torch", "IntStorage") => storage(Dtype::I32),
        ("torch", "ShortStorage") => storage(Dtype::I16),
        ("torch", "CharStorage") => storage(Dtype::I8),
        ("torch", "ByteStorage") => storage(Dtype::U8),
        ("torch", "BoolStorage") => storage(Dtype::BOOL),
        // In the checkpoints that Stable Diffusion 1 was published as.
        ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
        | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar")
        | ("numpy", "dtype")
        | ("_codecs", "encode")
        | ("torch", "device")
        | (
            "__builtin__" | "builtins",
            "set" | "dict" | "list" | "tuple" | "int" | "float" | "str" | "bool",
        ) => Some(Known::Inert),
        _ => None,
    }
}

/// Reads the pickle at the beginning of `bytes`.
///
/// Errors: what is wrong, with the byte where it is.
pub(super) fn read(bytes: &[u8]) -> Result<Pickled, String> {
    let mut machine = Machine {
        bytes,
        at: 0,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let begin = machine.at;
        let step = machine.step();
        match step.map_err(|why| format!("its pickle, at byte {begin}: {why}"))? {
            Step::On => {}
            Step::End(root) => {
                return Ok(Pickled {
                    nodes: machine.nodes,
                    root,
                    length: machine.at,
                });
            }
        }
    }
}

impl Pickled {
    /// The tensors by name: those of the whole, or of its part that training programs keep them in.
    pub fn tensors(&self) -> Vec<(&str, &PickledTensor)> {
        let whole = self.entries(self.root);
        let part = ["state_dict", "params_ema", "params", "string_to_param"]
            .iter()
            .find_map(|name| whole.iter().find(|(key, _)| key == name));
        let entries = match part {
            Some((_, part)) => self.entries(*part),
            None => whole,
        };
        let tensor = |(key, value)| match self.nodes.get(value) {
            Some(Node::Tensor(tensor)) => Some((key, tensor)),
            _ => None,
        };
        entries.into_iter().filter_map(tensor).collect()
    }

    /// Every storage that is named anywhere, also of what is not wanted, and its type.
    pub fn storages(&self) -> impl Iterator<Item = (&str, Dtype)> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Storage(key, dtype) => Some((key.as_str(), *dtype)),
            _ => None,
        })
    }

    /// The whole as a list of texts: the storages' names, in old files.
    pub fn texts(&self) -> Option<Vec<&str>> {
        match self.nodes.get(self.root)? {
            Node::List(items) => items.iter().map(|item| self.text(*item)).collect(),
            _ => None,
        }
    }

    /// A dictionary's entries whose keys are texts; none of anything else.
    fn entries(&self, id: Id) -> Vec<(&str, Id)> {
        let id = match self.nodes.get(id) {
            Some(Node::Parameters(id)) => *id,
            _ => id,
        };
        let Some(Node::Dict(items)) = self.nodes.get(id) else {
            return Vec::new();
        };
        let pairs = items.chunks_exact(2);
        pairs
            .filter_map(|pair| match pair {
                &[key, value] => Some((self.text(key)?, value)),
                _ => None,
            })
            .collect()
    }

    fn text(&self, id: Id) -> Option<&str> {
        match self.nodes.get(id)? {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }
}

enum Step {
    On,
    End(Id),
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack where a list, tuple or table began.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// One instruction.
    fn step(&mut self) -> Result<Step, String> {
        let code = self.byte()?;
        match code {
            // PROTO, FRAME: notes for the reader.
            0x80 => drop(self.byte()?),
            0x95 => drop(self.take(8)?),
            b'.' => return Ok(Step::End(self.pop()?)),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'N' => self.push(Node::None),
            0x88 => self.push(Node::Int(1)),
            0x89 => self.push(Node::Int(0)),
            b'J' | b'K' | b'M' | 0x8a => self.integer(code)?,
            b'G' => {
                self.take(8)?;
                self.push(Node::Other);
            }
            b'X' | b'T' | 0x8c | b'U' => self.text(code)?,
            b'B' | b'C' => self.skipped_bytes(code)?,
            b'}' => self.push(Node::Dict(Vec::new())),
            b']' => self.push(Node::List(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            b't' | 0x85 | 0x86 | 0x87 => self.tuple(code)?,
            b's' | b'u' | b'a' | b'e' => self.fill(code)?,
            b'q' | b'r' | 0x94 => self.remember(code)?,
            b'h' | b'j' => self.recall(code)?,
            b'c' | 0x93 => self.name(code)?,
            b'Q' => self.storage()?,
            b'R' | 0x81 => self.call()?,
            b'b' => self.build()?,
            other => {
                return Err(format!(
                    "the instruction {other:#04x} is not one of a file of weights"
                ));
            }
        }
        Ok(Step::On)
    }

    fn integer(&mut self, code: u8) -> Result<(), String> {
        let length = match code {
            b'J' => 4,
            b'K' => 1,
            b'M' => 2,
            _ => usize::from(self.byte()?),
        };
        let bytes = self.take(length)?;
        let node = if length > 8 {
            // The format's own mark; no size is so large.
            Node::Other
        } else {
            let signed = !matches!(code, b'K' | b'M');
            let fill = match bytes.last() {
                Some(last) if signed && *last >= 0x80 => 0xff,
                _ => 0,
            };
            let mut all = [fill; 8];
            for (to, from) in all.iter_mut().zip(bytes) {
                *to = *from;
            }
            Node::Int(i64::from_le_bytes(all))
        };
        self.push(node);
        Ok(())
    }

    fn text(&mut self, code: u8) -> Result<(), String> {
        let length = match code {
            b'X' | b'T' => self.u32()? as usize,
            _ => usize::from(self.byte()?),
        };
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.push(Node::Text(text));
        Ok(())
    }

    fn skipped_bytes(&mut self, code: u8) -> Result<(), String> {
        let length = match code {
            b'B' => self.u32()? as usize,
            _ => usize::from(self.byte()?),
        };
        self.take(length)?;
        self.push(Node::Other);
        Ok(())
    }

    fn tuple(&mut self, code: u8) -> Result<(), String> {
        let items = match code {
            b't' => self.since_mark()?,
            _ => {
                let count = usize::from(code - 0x84);
                let from = self
                    .stack
                    .len()
                    .checked_sub(count)
                    .ok_or("the stack is empty")?;
                self.stack.split_off(from)
            }
        };
        self.push(Node::Tuple(items));
        Ok(())
    }

    /// Puts values into the list or table below them.
    fn fill(&mut self, code: u8) -> Result<(), String> {
        let items = match code {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.since_mark()?,
        };
        let is_table = matches!(code, b's' | b'u');
        let target = *self.stack.last().ok_or("the stack is empty")?;
        match self.nodes.get_mut(target) {
            Some(Node::Dict(known)) if is_table && items.len().is_multiple_of(2) => {
                known.extend(items);
            }
            Some(Node::List(known)) if !is_table => known.extend(items),
            Some(Node::Other) => {}
            _ => return Err("values are put into what is neither a list nor a table".to_owned()),
        }
        Ok(())
    }

    fn remember(&mut self, code: u8) -> Result<(), String> {
        let place = match code {
            b'q' => u32::from(self.byte()?),
            b'r' => self.u32()?,
            _ => self.memo.len() as u32,
        };
        let value = *self.stack.last().ok_or("the stack is empty")?;
        self.memo.insert(place, value);
        Ok(())
    }

    fn recall(&mut self, code: u8) -> Result<(), String> {
        let place = match code {
            b'h' => u32::from(self.byte()?),
            _ => self.u32()?,
        };
        let value = self.memo.get(&place);
        self.stack
            .push(*value.ok_or("it recalls what it never kept")?);
        Ok(())
    }

    /// A name that Python would import.
    fn name(&mut self, code: u8) -> Result<(), String> {
        let (module, name) = if code == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            (self.text_of(module)?, self.text_of(name)?)
        };
        let known = known(&module, &name).ok_or_else(|| {
            format!(
                "it names {module}.{name}, which a file of weights does not need: it could run a \
                 program, and Easel does not read on"
            )
        })?;
        self.push(Node::Name(known));
        Ok(())
    }

    /// A persistent id: `("storage", type, key, device, length)`.
    fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let storage = match self.items(id) {
            Some(&[_, kind, key, ..]) => match (self.nodes.get(kind), self.nodes.get(key)) {
                (Some(Node::Name(Known::Storage(dtype))), Some(Node::Text(key)))
                    if key.len() <= MAX_KEY_BYTES =>
                {
                    Some(Node::Storage(key.clone(), *dtype))
                }
                _ => None,
            },
            _ => None,
        };
        self.push(storage.ok_or("it refers to what is no storage of numbers")?);
        Ok(())
    }

    /// A state for an object, of which only the parameters of an empty dictionary are used here.
    fn build(&mut self) -> Result<(), String> {
        /// An object of torch's has about twenty; more are not looked through.
        const MAX_ATTRIBUTES: usize = 64;
        let state = self.pop()?;
        let Some(Node::Dict(attributes)) = self.nodes.get(state) else {
            return Ok(());
        };
        let is_parameters = |pair: &&[Id]| match pair {
            [name, _] => {
                matches!(self.nodes.get(*name), Some(Node::Text(name)) if name == "_parameters")
            }
            _ => false,
        };
        let mut attributes = attributes.chunks_exact(2).take(MAX_ATTRIBUTES);
        let parameters = attributes
            .find(is_parameters)
            .and_then(|pair| pair.last())
            .copied();
        let object = self.stack.last().and_then(|id| self.nodes.get_mut(*id));
        if let (Some(parameters), Some(object @ Node::Dict(_))) = (parameters, object)
            && matches!(object, Node::Dict(items) if items.is_empty())
        {
            *object = Node::Parameters(parameters);
        }
        Ok(())
    }

    /// What calling a name with arguments would give.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let arguments = self.items(arguments).ok_or("a call without arguments")?;
        let node = match self.nodes.get(callee) {
            Some(Node::Name(Known::RebuildTensor)) => Node::Tensor(self.tensor(arguments)?),
            Some(Node::Name(Known::RebuildParameter)) => match arguments {
                [tensor, ..] => self.nodes.get(*tensor).cloned().unwrap_or(Node::Other),
                [] => return Err("a parameter without a tensor".to_owned()),
            },
            Some(Node::Name(Known::OrderedDict)) if arguments.is_empty() => Node::Dict(Vec::new()),
            Some(Node::Name(Known::Inert)) => Node::Other,
            _ => return Err("it calls what is not a name".to_owned()),
        };
        self.push(node);
        Ok(())
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, ...)`
    fn tensor(&self, arguments: &[Id]) -> Result<PickledTensor, String> {
        let &[storage, offset, shape, strides, ..] = arguments else {
            return Err("a tensor lacks its size".to_owned());
        };
        let (Some(Node::Storage(key, dtype)), Some(Node::Int(offset))) =
            (self.nodes.get(storage), self.nodes.get(offset))
        else {
            return Err("a tensor lacks its storage".to_owned());
        };
        Ok(PickledTensor {
            storage: key.clone(),
            dtype: *dtype,
            offset: *offset,
            shape: self.integers(shape)?,
            strides: self.integers(strides)?,
        })
    }

    fn integers(&self, id: Id) -> Result<Vec<i64>, String> {
        let one = |id: &Id| match self.nodes.get(*id) {
            Some(Node::Int(number)) => Ok(*number),
            _ => Err("a tensor's size is not made of numbers".to_owned()),
        };
        let items = self.items(id).ok_or("a tensor's size is not a list")?;
        // More dimensions than any tensor has; they are shared, so they could be copied without end.
        if items.len() > 64 {
            return Err(format!("a tensor has {} dimensions", items.len()));
        }
        items.iter().map(one).collect()
    }

    fn items(&self, id: Id) -> Option<&[Id]> {
        match self.nodes.get(id)? {
            Node::Tuple(items) | Node::List(items) => Some(items),
            _ => None,
        }
    }

    fn text_of(&self, id: Id) -> Result<String, String> {
        match self.nodes.get(id) {
            Some(Node::Text(text)) => Ok(text.clone()),
            _ => Err("a name is not a text".to_owned()),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("a list ends that never began")?;
        if mark > self.stack.len() {
            return Err("a list ends before it began".to_owned());
        }
        Ok(self.stack.split_off(mark))
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.stack
            .pop()
            .ok_or_else(|| "the stack is empty".to_owned())
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(*self.take(1)?.first().ok_or("it is cut off")?)
    }

    fn u32(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?;
        bytes
            .try_into()
            .map(u32::from_le_bytes)
            .map_err(|_| "it is cut off".to_owned())
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or("it is cut off")?;
        let line = self.take(end)?;
        self.take(1)?;
        Ok(String::from_utf8_lossy(line).into_owned())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self
            .at
            .checked_add(length)
            .filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("it is cut off")?;
        let taken = self.bytes.get(self.at..end).ok_or("it is cut off")?;
        self.at = end;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        read(bytes).err().expect("a hostile pickle was read")
    }

    #[test]
    fn a_name_that_could_run_a_program_is_refused_by_name() {
        // pickle.dumps of an object whose __reduce__ is (os.system, ("echo",)), protocols 2 and 4.
        let two = b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00echoq\x01\x85q\x02Rq\x03.";
        let four = b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04echo\x94\x85\x94R\x94.";
        for bytes in [&two[..], &four[..]] {
            assert!(
                refusal(bytes).contains("posix.system"),
                "{}",
                refusal(bytes)
            );
        }
        for (module, name) in [
            ("builtins", "eval"),
            ("torch", "load"),
            ("os", "system"),
            ("numpy", "load"),
        ] {
            let bytes = format!("c{module}\n{name}\n.");
            assert!(refusal(bytes.as_bytes()).contains(&format!("{module}.{name}")));
        }
    }

    #[test]
    fn instructions_of_other_pickles_are_refused() {
        // INST, OBJ, EXT1, PERSID, REDUCE of a text.
        for bytes in [
            &b"(iposix\nsystem\n."[..],
            b"(o.",
            b"\x82\x01.",
            b"P1\n.",
            b"X\x01\x00\x00\x00a)R.",
        ] {
            refusal(bytes);
        }
    }

    #[test]
    fn a_nest_of_a_million_lists_costs_its_bytes_only() {
        let nest = [vec![b']'; 1_000_000], vec![b'a'; 999_999], vec![b'.']].concat();
        assert_eq!(read(&nest).unwrap().length, nest.len());
        let itself = b"]q\x00h\x00a.";
        assert!(read(itself).unwrap().tensors().is_empty());
    }

    #[test]
    fn what_is_cut_off_or_upside_down_is_an_error() {
        for bytes in [
            &b""[..],
            b".",
            b"t.",
            b"h\x00.",
            b"X\xff\xff\xff\xffa",
            b"a.",
            b"}Na.",
            b"(K\x01u.",
            b"R.",
        ] {
            refusal(bytes);
        }
    }
}
