"""Asks a switch all sorts of things in one OpenFlow version, and says what came back, a line each."""

import sys

from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.ofproto import ofproto_v1_0, ofproto_v1_2, ofproto_v1_3, ofproto_v1_4, ofproto_v1_5

VERSIONS = {"1.0": ofproto_v1_0, "1.2": ofproto_v1_2, "1.3": ofproto_v1_3, "1.4": ofproto_v1_4, "1.5": ofproto_v1_5}


def said(text):
    print(text, flush=True)


class Asker(app_manager.OSKenApp):
    OFP_VERSIONS = [VERSIONS[sys.argv[2]].OFP_VERSION]

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def on_features(self, event):
        d = event.msg.datapath
        o, p = d.ofproto, d.ofproto_parser
        latest = o.OFP_VERSION == ofproto_v1_5.OFP_VERSION
        said(f"features {event.msg.datapath_id:016x} tables {event.msg.n_tables}")
        if o.OFP_VERSION == ofproto_v1_0.OFP_VERSION:
            up = [p.OFPActionOutput(o.OFPP_CONTROLLER, 0xFFFF)]
            d.send_msg(p.OFPFlowMod(d, p.OFPMatch(), 0x77, o.OFPFC_ADD, priority=1, actions=up))
            d.send_msg(p.OFPDescStatsRequest(d, 0))
            d.send_msg(p.OFPPortStatsRequest(d, 0, o.OFPP_NONE))
            d.send_msg(p.OFPFlowStatsRequest(d, 0, p.OFPMatch(), 0xFF, o.OFPP_NONE))
        else:
            up = [p.OFPActionOutput(o.OFPP_CONTROLLER, o.OFPCML_NO_BUFFER)]
            apply = p.OFPInstructionActions(o.OFPIT_APPLY_ACTIONS, up)
            d.send_msg(p.OFPFlowMod(d, cookie=0x77, priority=1, match=p.OFPMatch(), instructions=[apply], flags=o.OFPFF_SEND_FLOW_REM))
            bucket = p.OFPBucket(bucket_id=1, actions=[p.OFPActionOutput(1)]) if latest else p.OFPBucket(weight=1, actions=[p.OFPActionOutput(1)])
            d.send_msg(p.OFPGroupMod(d, o.OFPGC_ADD, o.OFPGT_ALL if latest else o.OFPGT_SELECT, 5, buckets=[bucket]))
            d.send_msg(p.OFPDescStatsRequest(d, 0))
            d.send_msg(p.OFPPortStatsRequest(d, flags=0, port_no=o.OFPP_ANY))
            d.send_msg(p.OFPGroupDescStatsRequest(d, 0))
            d.send_msg(p.OFPRoleRequest(d, role=o.OFPCR_ROLE_MASTER, generation_id=7, **({"short_id": 3} if latest else {})))
        if o.OFP_VERSION >= ofproto_v1_3.OFP_VERSION:
            d.send_msg(p.OFPMeterMod(d, o.OFPMC_ADD, o.OFPMF_KBPS, 9, [p.OFPMeterBandDrop(rate=100, burst_size=10)]))
            d.send_msg((p.OFPMeterDescStatsRequest if latest else p.OFPMeterConfigStatsRequest)(d, 0, o.OFPM_ALL))
            d.send_msg(p.OFPPortDescStatsRequest(d, 0))
        if o.OFP_VERSION >= ofproto_v1_4.OFP_VERSION:
            d.send_msg(p.OFPTableDescStatsRequest(d, 0))
            d.send_msg(p.OFPFlowMonitorRequest(d, 0, 3, o.OFPP_ANY, o.OFPG_ANY, o.OFPFMF_INITIAL | o.OFPFMF_ADD, o.OFPTT_ALL, o.OFPFMC_ADD, p.OFPMatch()))
        d.send_msg(p.OFPBarrierRequest(d))

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def on_packet_in(self, event):
        said(f"packet-in of {event.msg.total_len} bytes")

    @set_ev_cls(ofp_event.EventOFPFlowRemoved, MAIN_DISPATCHER)
    def on_flow_removed(self, event):
        said(f"flow {event.msg.cookie:#x} removed")

    @set_ev_cls(ofp_event.EventOFPErrorMsg, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def on_error(self, event):
        said(f"error {event.msg.type} {event.msg.code}")

    @set_ev_cls(ofp_event.EventOFPBarrierReply, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def on_barrier(self, event):
        said("barrier")

    def told(self, name, event):
        said(f"{name} {len(event.msg.body) if isinstance(event.msg.body, list) else 1}")


def hears(name, *events):
    for e in events:
        if hasattr(ofp_event, e):

            def method(self, event, name=name):
                self.told(name, event)

            method.__name__ = f"on_{name}_{e}"
            setattr(Asker, method.__name__, set_ev_cls(getattr(ofp_event, e), [CONFIG_DISPATCHER, MAIN_DISPATCHER])(method))


# All kinds in one, in 1.2.
hears("stats", "EventOFPStatsReply")
hears("desc", "EventOFPDescStatsReply")
hears("ports", "EventOFPPortStatsReply")
hears("port_desc", "EventOFPPortDescStatsReply")
hears("flows", "EventOFPFlowStatsReply")
hears("groups", "EventOFPGroupDescStatsReply")
hears("meters", "EventOFPMeterConfigStatsReply", "EventOFPMeterDescStatsReply")
hears("tables", "EventOFPTableDescStatsReply")
hears("monitor", "EventOFPFlowMonitorReply")


if __name__ == "__main__":
    import os

    from os_ken import cfg

    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    # The options of the OpenFlow listener are known once its module is loaded.
    import os_ken.controller.controller  # noqa: F401

    cfg.CONF(args=["--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", sys.argv[1]], project="os_ken", default_config_files=[])
    app_manager.AppManager.run_apps(["os_ken.controller.ofp_handler", "every_version"])
