//! Runs larder's own scripts, in Lua 5.1 as Redis does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;

use aws_lc_rs::digest;
use bytes::Bytes;
use mlua::{Function, Lua, MultiValue, Table, Value};

use super::{Database, Reply};
use crate::mutants::changed_script;

/// The interpreter of this thread.
struct Interpreter {
    lua: Lua,
    scripts: RefCell<HashMap<Bytes, Function>>,
}

thread_local! {
    static INTERPRETER: Interpreter = Interpreter::new().expect("an interpreter");
    /// The database that a running script works on.
    static DATABASE: RefCell<Option<Database>> = const { RefCell::new(None) };
}

/// Compiles a script, and returns the digest by which it is called.
pub fn load(text: &Bytes) -> Bytes {
    let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text);
    let digest: Bytes = sha1.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
    INTERPRETER.with(|interpreter| {
        let text = changed_script(std::str::from_utf8(text).expect("a text"));
        let script = interpreter.lua.load(text).into_function().expect("a script without errors");
        interpreter.scripts.borrow_mut().insert(digest.clone(), script);
    });
    digest
}

pub fn is_loaded(digest: &Bytes) -> bool {
    INTERPRETER.with(|interpreter| interpreter.scripts.borrow().contains_key(digest))
}

/// Runs a script on the database: `EVALSHA digest count key … argument …`.
pub fn run(database: &mut Database, words: &[Bytes]) -> Reply {
    DATABASE.set(Some(std::mem::take(database)));
    let reply = INTERPRETER.with(|interpreter| interpreter.run(words));
    *database = DATABASE.take().expect("the database of the script");
    reply.unwrap_or_else(|error| Reply::Error(error.to_string()))
}

impl Interpreter {
    fn new() -> mlua::Result<Self> {
        let lua = Lua::new();
        let redis = lua.create_table()?;
        let call = |lua: &Lua, words: MultiValue| match command(words)? {
            Reply::Error(error) => Err(mlua::Error::RuntimeError(error)),
            reply => to_lua(lua, &reply),
        };
        redis.set("call", lua.create_function(call)?)?;
        redis.set("pcall", lua.create_function(|lua, words| to_lua(lua, &command(words)?))?)?;
        let error_reply =
            |lua: &Lua, text: mlua::LuaString| to_lua(lua, &Reply::Error(text.to_str()?.to_owned()));
        redis.set("error_reply", lua.create_function(error_reply)?)?;
        lua.globals().set("redis", redis)?;
        Ok(Self { lua, scripts: RefCell::default() })
    }

    fn run(&self, words: &[Bytes]) -> mlua::Result<Reply> {
        let count: usize = super::number(&words[1]).expect("a count of keys");
        let (keys, arguments) = words[2..].split_at(count);
        self.lua.globals().set("KEYS", self.strings(keys)?)?;
        self.lua.globals().set("ARGV", self.strings(arguments)?)?;
        let script = self.scripts.borrow().get(&words[0]).expect("it is loaded").clone();
        from_lua(&script.call::<Value>(())?)
    }

    fn strings(&self, words: &[Bytes]) -> mlua::Result<Table> {
        let table = self.lua.create_table_with_capacity(words.len(), 0)?;
        for word in words {
            table.raw_push(self.lua.create_string(word)?)?;
        }
        Ok(table)
    }
}

/// All words are slices of one allocation.
fn command(words: MultiValue) -> mlua::Result<Reply> {
    let (mut text, mut ends) = (Vec::with_capacity(256), Vec::with_capacity(words.len()));
    for word in &words {
        match word {
            Value::String(word) => text.extend_from_slice(&word.as_bytes()),
            Value::Integer(number) => write!(text, "{number}")?,
            Value::Number(number) => write!(text, "{number}")?,
            other => return Err(mlua::Error::RuntimeError(format!("a command has a {}", other.type_name()))),
        }
        ends.push(text.len());
    }
    let text = Bytes::from(text);
    let starts = [0].iter().chain(&ends);
    let words: Vec<Bytes> = starts.zip(&ends).map(|(start, end)| text.slice(*start..*end)).collect();
    Ok(DATABASE.with_borrow_mut(|database| database.as_mut().expect("in a script").command(&words)))
}

fn to_lua(lua: &Lua, reply: &Reply) -> mlua::Result<Value> {
    let field = |name: &str, text: &str| -> mlua::Result<Value> {
        let table = lua.create_table()?;
        table.raw_set(name, text)?;
        Ok(Value::Table(table))
    };
    Ok(match reply {
        Reply::Nil => Value::Boolean(false),
        Reply::Integer(number) => Value::Number(*number as f64),
        Reply::Bulk(text) => Value::String(lua.create_string(text)?),
        Reply::Status(text) => field("ok", text)?,
        Reply::Error(text) => field("err", text)?,
        Reply::Array(replies) => {
            let table = lua.create_table_with_capacity(replies.len(), 0)?;
            for reply in replies {
                table.raw_push(to_lua(lua, reply)?)?;
            }
            Value::Table(table)
        }
    })
}

fn from_lua(value: &Value) -> mlua::Result<Reply> {
    Ok(match value {
        Value::Nil | Value::Boolean(false) => Reply::Nil,
        Value::Boolean(true) => Reply::Integer(1),
        Value::Integer(number) => Reply::Integer(*number),
        Value::Number(number) => Reply::Integer(*number as i64),
        Value::String(text) => Reply::Bulk(Bytes::copy_from_slice(&text.as_bytes())),
        Value::Table(table) => {
            if let Some(error) = table.raw_get::<Option<mlua::LuaString>>("err")? {
                return Ok(Reply::Error(error.to_str()?.to_owned()));
            }
            if table.raw_get::<Option<mlua::LuaString>>("ok")?.is_some() {
                return Ok(Reply::Status("OK"));
            }
            let values = table.sequence_values::<Value>();
            Reply::Array(values.map(|value| from_lua(&value?)).collect::<mlua::Result<_>>()?)
        }
        other => return Err(mlua::Error::RuntimeError(format!("a script returns a {}", other.type_name()))),
    })
}
