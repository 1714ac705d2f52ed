"""Prints a controller's messages as os-ken builds them: "version name hex" a line."""
import struct

from os_ken.ofproto import ofproto_protocol


def build(dp):
    """Constructors, each called when it is its turn: not every version has every class."""
    o, p = dp.ofproto, dp.ofproto_parser
    yield lambda: p.OFPHello(dp)
    yield lambda: p.OFPEchoRequest(dp, b"abc")
    yield lambda: p.OFPFeaturesRequest(dp)
    yield lambda: p.OFPGetConfigRequest(dp)
    yield lambda: p.OFPSetConfig(dp, 0, 128)
    yield lambda: p.OFPBarrierRequest(dp)
    yield lambda: p.OFPDescStatsRequest(dp, 0)
    yield lambda: p.OFPTableStatsRequest(dp, 0)
    if o.OFP_VERSION == 1:
        match = p.OFPMatch(in_port=1, dl_type=0x800, nw_proto=6, tp_dst=80)
        actions = [p.OFPActionOutput(2, 0), p.OFPActionVlanVid(5)]
        yield lambda: p.OFPFlowMod(dp, match, 1, o.OFPFC_ADD, 2, 3, 4, 0xFFFFFFFF, o.OFPP_NONE, 1, actions)
        yield lambda: p.OFPPacketOut(dp, 0xFFFFFFFF, 1, actions, b"x" * 60)
        yield lambda: p.OFPFlowStatsRequest(dp, 0, match, 255, o.OFPP_NONE)
        yield lambda: p.OFPPortStatsRequest(dp, 0, 3)
        yield lambda: p.OFPQueueStatsRequest(dp, 0, 3, 4)
        yield lambda: p.OFPQueueGetConfigRequest(dp, 3)
        yield lambda: p.NXTRoleRequest(dp, 1)
        yield lambda: p.NXTFlowModTableId(dp, 1)
        yield lambda: p.NXTSetFlowFormat(dp, 2)
        yield lambda: p.NXTSetPacketInFormat(dp, 1)
        return
    # Fields in an order that all agree on.
    match = p.OFPMatch(in_port=1, eth_type=0x800, ip_proto=6, tcp_dst=80)
    actions = [
        p.OFPActionPushVlan(0x8100),
        p.OFPActionSetField(vlan_vid=0x1005),
        p.OFPActionSetQueue(7),
        p.OFPActionGroup(9),
        p.OFPActionDecNwTtl(),
        p.OFPActionOutput(2, 128),
    ]
    doing = [
        p.OFPInstructionActions(o.OFPIT_APPLY_ACTIONS, actions),
        p.OFPInstructionWriteMetadata(5, 7),
        p.OFPInstructionGotoTable(8),
    ]
    for command in range(5):
        yield lambda: p.OFPFlowMod(
            dp, cookie=1, cookie_mask=3, table_id=4, command=command, idle_timeout=5, hard_timeout=6, priority=7,
            buffer_id=o.OFP_NO_BUFFER, out_port=o.OFPP_ANY, out_group=o.OFPG_ANY, flags=1, match=match,
            instructions=doing)
    if o.OFP_VERSION == 6:
        yield lambda: p.OFPPacketOut(dp, o.OFP_NO_BUFFER, p.OFPMatch(in_port=3), actions, b"x" * 60)
        buckets = [p.OFPBucket(bucket_id=1, actions=actions, properties=[p.OFPGroupBucketPropWeight(weight=5, length=8)])]
        yield lambda: p.OFPGroupMod(dp, o.OFPGC_ADD, o.OFPGT_SELECT, 1, o.OFPG_BUCKET_ALL, buckets)
        yield lambda: p.OFPGroupMod(dp, o.OFPGC_INSERT_BUCKET, o.OFPGT_SELECT, 1, o.OFPG_BUCKET_LAST, buckets)
        yield lambda: p.OFPGroupDescStatsRequest(dp, 0, 1)
        yield lambda: p.OFPPortDescStatsRequest(dp, 0, 1)
        yield lambda: p.OFPRoleRequest(dp, o.OFPCR_ROLE_MASTER, 5, 11)
        yield lambda: p.OFPFlowDescStatsRequest(dp, 0, match=match)
        yield lambda: p.OFPControllerStatusStatsRequest(dp, 0)
    else:
        yield lambda: p.OFPPacketOut(dp, o.OFP_NO_BUFFER, 3, actions, b"x" * 60)
        buckets = [p.OFPBucket(weight=5, watch_port=o.OFPP_ANY, watch_group=o.OFPG_ANY, actions=actions)]
        yield lambda: p.OFPGroupMod(dp, o.OFPGC_ADD, o.OFPGT_SELECT, 1, buckets)
        yield lambda: p.OFPGroupDescStatsRequest(dp, 0)
        yield lambda: p.OFPPortDescStatsRequest(dp, 0)
        yield lambda: p.OFPRoleRequest(dp, o.OFPCR_ROLE_MASTER, 5)
    yield lambda: p.OFPFlowStatsRequest(dp, 0, match=match)
    yield lambda: p.OFPAggregateStatsRequest(dp, 0, 1, o.OFPP_ANY, o.OFPG_ANY, 0, 0, match)
    # The flags come first, but for 1.2.
    ask = (lambda c, *a: c(dp, *a, 0)) if o.OFP_VERSION == 3 else (lambda c, *a: c(dp, 0, *a))
    yield lambda: ask(p.OFPPortStatsRequest, 3)
    yield lambda: ask(p.OFPQueueStatsRequest, 3, 4)
    yield lambda: ask(p.OFPGroupStatsRequest, 5)
    yield lambda: p.OFPGroupFeaturesStatsRequest(dp, 0)
    yield lambda: p.OFPQueueGetConfigRequest(dp, 3)
    yield lambda: p.OFPGetAsyncRequest(dp)
    if o.OFP_VERSION < 4:
        return
    bands = [p.OFPMeterBandDrop(100, 10), p.OFPMeterBandDscpRemark(200, 20, 1)]
    yield lambda: p.OFPMeterMod(dp, o.OFPMC_ADD, 1, 3, bands)
    yield lambda: p.OFPMeterStatsRequest(dp, 0, 1)
    yield lambda: p.OFPMeterFeaturesStatsRequest(dp, 0)
    yield lambda: p.OFPTableFeaturesStatsRequest(dp, 0)
    if o.OFP_VERSION < 5:
        yield lambda: p.OFPSetAsync(dp, 1, 2, 3, 4, 5, 6)
        yield lambda: p.OFPPortMod(dp, 1, "02:00:00:00:00:01", 1, 1, 0x2000)
        return
    yield lambda: p.OFPPortMod(dp, 1, "02:00:00:00:00:01", 1, 1, [p.OFPPortModPropEthernet(advertise=0x2000)])
    yield lambda: p.OFPSetAsync(dp, [p.OFPAsyncConfigPropReasons(0, 8, 3), p.OFPAsyncConfigPropReasons(5, 8, 1)])
    yield lambda: p.OFPTableMod(dp, 1, 4, [p.OFPTableModPropEviction(flags=2)])
    yield lambda: p.OFPTableDescStatsRequest(dp, 0)
    yield lambda: p.OFPQueueDescStatsRequest(dp, 0, 1, 2)
    yield lambda: p.OFPFlowMonitorRequest(dp, 0, 1, o.OFPP_ANY, o.OFPG_ANY, 3, 255, o.OFPFMC_ADD, match)
    yield lambda: p.OFPBundleCtrlMsg(dp, 7, o.OFPBCT_OPEN_REQUEST, o.OFPBF_ATOMIC, [])
    inner = p.OFPFlowMod(dp, match=match, instructions=doing)
    yield lambda: p.OFPBundleAddMsg(dp, 7, o.OFPBF_ATOMIC, inner, [])


for version in (1, 3, 4, 5, 6):
    datapath = ofproto_protocol.ProtocolDesc(version=version)
    for make in build(datapath):
        try:
            msg = make()
            msg.set_xid(1)
            msg.serialize()
        except (AttributeError, TypeError, struct.error):
            # The version has no such message, or os-ken's class for it other arguments.
            continue
        print(version, type(msg).__name__, bytes(msg.buf).hex())
