//! Bridges as the database describes them: configuration, OpenFlow agent, control socket.
