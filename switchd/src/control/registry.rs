//! Tables of commands of a control socket: what a daemon answers, whatever it is.

/// A command's function: what it works on and its arguments in, its text or an error out.
pub type Run<C> = fn(&C, &[String]) -> Result<String, String>;

/// One command of a daemon whose commands work on a `C`.
pub struct Command<C: 'static> {
    name: &'static str,
    usage: &'static str,
    min: usize,
    max: usize,
    run: Run<C>,
}

/// A command with its name, its arguments as `list-commands` shows them, their fewest and most, and
/// its function.
pub const fn command<C>(
    name: &'static str,
    usage: &'static str,
    min: usize,
    max: usize,
    run: Run<C>,
) -> Command<C> {
    Command {
        name,
        usage,
        min,
        max,
        run,
    }
}

/// What `list-commands` answers.
pub fn list<C>(commands: &[Command<C>]) -> String {
    let mut out = String::from("The available commands are:\n");
    for c in commands {
        out.push_str(&format!("  {:<23} {}\n", c.name, c.usage));
    }
    out
}

/// Runs the command `name`.
///
/// # Errors
/// There is none of that name, it takes more or fewer arguments, or what it says.
pub fn run<C>(
    commands: &[Command<C>],
    context: &C,
    name: &str,
    args: &[String],
) -> Result<String, String> {
    let Some(c) = commands.iter().find(|c| c.name == name) else {
        return Err(format!(
            "\"{name}\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
        ));
    };
    if args.len() < c.min {
        return Err(format!(
            "\"{name}\" command requires at least {} arguments",
            c.min
        ));
    }
    if args.len() > c.max {
        return Err(format!(
            "\"{name}\" command takes at most {} arguments",
            c.max
        ));
    }
    tracing::debug!("received request {name}{args:?}");
    (c.run)(context, args)
}
