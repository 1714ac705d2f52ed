"""The Python IDL of Open vSwitch against a database server: python idl.py REMOTE SCHEMA

Prints what it saw, a line a step, so that what it sees of two servers can be compared."""

import sys

import ovs.db.idl
import ovs.poller
from ovs.db.idl import Idl, SchemaHelper, Transaction

REMOTE, SCHEMA = sys.argv[1:3]


def replica(tables=("Queue", "QoS", "Bridge", "Port", "Interface", "Open_vSwitch"), **options):
    helper = SchemaHelper(SCHEMA)
    for table in tables:
        helper.register_table(table)
    return Idl(REMOTE, helper, **options)


def until(condition, *idls):
    """Runs `idls` until `condition` is true, at most about 20 seconds."""
    for _ in range(200):
        for idl in idls:
            idl.run()
        if condition():
            return
        poller = ovs.poller.Poller()
        for idl in idls:
            idl.wait(poller)
        poller.timer_wait(100)
        poller.block()
    sys.exit(f"line {sys._getframe(1).f_lineno}: the condition never came true")


def commit(idl, work):
    """Does `work` in a transaction; the name of its status."""
    transaction = Transaction(idl)
    work(transaction)
    return Transaction.status_to_string(transaction.commit_block())


def queues(idl):
    return sorted((q.dscp, sorted(q.external_ids.items())) for q in idl.tables["Queue"].rows.values())


def queue(idl, dscp):
    return next(q for q in idl.tables["Queue"].rows.values() if q.dscp == [dscp])


a, b = replica(), replica()
until(lambda: a.has_ever_connected() and b.has_ever_connected(), a, b)
print("connected", queues(a))


def insert(t):
    for dscp in (1, 2, 3):
        row = t.insert(a.tables["Queue"])
        row.dscp = dscp
        row.external_ids = {"n": str(dscp)}
    t.add_comment("three queues")


before = b.change_seqno
print("insert", commit(a, insert))
until(lambda: len(queues(b)) == 3, a, b)
print("seen", queues(b), b.change_seqno > before)


def nested(t):
    iface = t.insert(a.tables["Interface"])
    iface.name = "br0"
    port = t.insert(a.tables["Port"])
    port.name = "br0"
    port.interfaces = [iface]
    port.trunks = [1, 2]
    bridge = t.insert(a.tables["Bridge"])
    bridge.name = "br0"
    bridge.ports = [port]
    root = next(iter(a.tables["Open_vSwitch"].rows.values()), None) or t.insert(a.tables["Open_vSwitch"])
    root.bridges = [bridge]


print("references", commit(a, nested))
until(lambda: len(b.tables["Bridge"].rows) == 1, a, b)
bridge = next(iter(b.tables["Bridge"].rows.values()))
print("followed", bridge.ports[0].interfaces[0].name, bridge.ports[0].trunks)


def mutate(t):
    row = queue(a, 1)
    row.verify("dscp")
    row.setkey("external_ids", "k", "v")
    row.delkey("external_ids", "n")


print("mutate", commit(a, mutate))
until(lambda: queues(b)[0] == ([1], [("k", "v")]), a, b)
print("mutated", queues(b))

# A verification fails when another was faster: the transaction says so and can be tried again.
conflict = Transaction(b)
row = queue(b, 2)
row.verify("external_ids")
row.external_ids = {"from": "b"}
print("other", commit(a, lambda t: setattr(queue(a, 2), "external_ids", {"from": "a"})))
print("conflict", Transaction.status_to_string(conflict.commit_block()))
until(lambda: ([2], [("from", "a")]) in queues(b), a, b)



def increment(t):
    # It counts what is changed together with it.
    root = next(iter(a.tables["Open_vSwitch"].rows.values()))
    root.setkey("external_ids", "k", "v")
    root.increment("next_cfg")


print("increment", commit(a, increment))
until(lambda: next(iter(b.tables["Open_vSwitch"].rows.values())).next_cfg == 1, a, b)

# Conditions, changed on a live connection.
c = replica(tables=("Queue",))
c.cond_change("Queue", [["dscp", "==", 1]])
until(lambda: c.has_ever_connected() and len(queues(c)) == 1, c)
print("condition", queues(c))
c.cond_change("Queue", [["dscp", "==", 2], ["dscp", "==", 3]])
until(lambda: [q[0] for q in queues(c)] == [[2], [3]], c)
print("changed", queues(c))
commit(a, lambda t: setattr(queue(a, 2), "dscp", 9))
until(lambda: [q[0] for q in queues(c)] == [[3]], a, c)
print("left", queues(c))

# What was missed comes after a reconnection.
b.force_reconnect()
commit(a, lambda t: queue(a, 9).delete())
until(lambda: [q[0] for q in queues(b)] == [[1], [3]], a, b)
c.force_reconnect()
commit(a, lambda t: setattr(queue(a, 1), "dscp", 2))
until(lambda: [q[0] for q in queues(c)] == [[2], [3]], a, c)
print("again", queues(b), queues(c))

# Locks.
a.set_lock("lock")
until(lambda: a.has_lock, a)
b.set_lock("lock")
until(lambda: b.is_lock_contended, a, b)
print("locks", a.has_lock, b.has_lock, commit(b, lambda t: setattr(queue(b, 3), "dscp", 4)))
a.set_lock(None)
until(lambda: b.has_lock, a, b)
print("passed on", commit(b, lambda t: setattr(queue(b, 3), "dscp", 4)))

print("end", queues(b))
for idl in (a, b, c):
    idl.close()
