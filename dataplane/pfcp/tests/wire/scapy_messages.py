"""PFCP messages by scapy, a foreign codec (TS 29.244 V15.6).

usage: scapy_messages.py build          one message a line: name and hexadecimal digits
       scapy_messages.py dissect        reads hexadecimal digits by line; one JSON object a line:
                                        whether scapy makes the same octets again, and what it did
                                        not understand
"""

import json
import sys

import scapy.contrib.pfcp as pfcp
from scapy.contrib.pfcp import *  # noqa: F403
from scapy.packet import NoPayload, Packet, Raw

NTP_2023 = 1_700_000_000 + 2_208_988_800


def node_message(message, sequence=1):
    return PFCP(S=0, seq=sequence) / message


def session_message(message, seid, sequence=1):
    return PFCP(S=1, seid=seid, seq=sequence) / message


def node(address="192.0.2.1"):
    return IE_NodeId(id_type=0, ipv4=address)


def fqdn(name):
    return IE_NodeId(id_type=2, id=name)


def instance(name):
    # scapy writes labels; the octets here are the text itself.
    return IE_NotImplemented(ietype=22, data=name)


def actions(**flags):
    # The second octet came with release 16.
    return IE_ApplyAction(spare=0, extra_data=b"\0", **flags)


def heartbeat():
    return node_message(PFCPHeartbeatRequest(IE_list=[IE_RecoveryTimeStamp(timestamp=NTP_2023)]), 7)


def association_setup():
    features = IE_UPFunctionFeatures(
        TREU=0, HEEU=0, PFDM=1, FTUP=1, TRST=0, DLBD=0, DDND=0, BUCP=0,
        spare=0, PFDE=0, FRRT=0, TRACE=0, QUOAC=1, UDBC=0, PDIU=0, EMPU=1,
    )
    return node_message(
        PFCPAssociationSetupRequest(
            IE_list=[
                fqdn("upf-1.example"),
                IE_RecoveryTimeStamp(timestamp=NTP_2023),
                features,
                IE_UserPlaneIPResourceInformation(
                    V4=1, V6=1, TEIDRI=2, teid_range=0x40, ipv4="192.0.2.9", ipv6="2001:db8::9"
                ),
            ]
        )
    )


def association_release():
    return node_message(PFCPAssociationReleaseRequest(IE_list=[node()]), 0xABCDEF)


def pfd_management():
    custom = "qlink-content=b3:" + "07" * 32 + "\n" + "qlink-content=b3:" + "08" * 32
    flow = "permit out 6 from 192.0.2.0/24 443 to assigned"
    pfds = [
        IE_PFDContents(FD=1, CP=1, flow=flow, custom=custom),
        IE_PFDContents(URL=1, DN=1, DNP=1, url="^https://a", domain="example.com", dnp="sni"),
    ]
    application = IE_ApplicationID_PFDs(
        IE_list=[IE_ApplicationId(id="films"), IE_PFDContext(IE_list=pfds)]
    )
    return node_message(PFCPPFDManagementRequest(IE_list=[application]))


def uplink_pdr():
    flow = "permit out 17 from 198.51.100.0/24 80,8000-8080 to assigned"
    pdi = [
        IE_SourceInterface(interface=0),
        IE_FTEID(CH=1, CHID=1, V4=1, V6=1, choose_id=5),
        instance("internet"),
        IE_UE_IP_Address(V4=1, V6=1, SD=0, ipv4="10.45.0.2", ipv6="2001:db8:45::"),
        IE_SDF_Filter(FD=1, TTC=1, SPI=1, FL=1, BID=1, flow_description=flow,
                      tos_traffic_class=0xB8, tos_traffic_mask=0xFC,
                      security_parameter_index=0x01020304, flow_label=0x0ABCDE, sdf_filter_id=9),
        IE_ApplicationId(id="films"),
        IE_QFI(spare=0, QFI=9),
        IE_EnterpriseSpecific(ietype=0x8001, enterprise_id=32473, data=bytes([7] * 32)),
        IE_EnterpriseSpecific(ietype=0x8003, enterprise_id=32473, data=bytes([9] * 16)),
    ]
    return IE_CreatePDR(
        IE_list=[
            IE_PDR_Id(id=1),
            IE_Precedence(precedence=100),
            IE_PDI(IE_list=pdi),
            IE_OuterHeaderRemoval(header=0),
            IE_FAR_Id(id=1),
            IE_URR_Id(id=1),
            IE_URR_Id(id=2),
            IE_QER_Id(id=1),
        ]
    )


def fars():
    forward = IE_CreateFAR(
        IE_list=[
            IE_FAR_Id(id=1),
            actions(FORW=1, DUPL=1),
            IE_ForwardingParameters(
                IE_list=[
                    IE_DestinationInterface(interface=1),
                    instance("internet"),
                    IE_RedirectInformation(type=2, address="http://portal.example/"),
                    IE_OuterHeaderCreation(GTPUUDPIPV4=1, GTPUUDPIPV6=1, TEID=0x0A0B0C0D,
                                           ipv4="192.0.2.7", ipv6="2001:db8::7"),
                    IE_TransportLevelMarking(tos=0xB8, traffic_class=0xFC),
                ]
            ),
            IE_DuplicatingParameters(
                IE_list=[
                    IE_DestinationInterface(interface=4),
                    IE_OuterHeaderCreation(GTPUUDPIPV4=1, TEID=0x0A0B0C0E, ipv4="192.0.2.8"),
                ]
            ),
        ]
    )
    buffer = IE_CreateFAR(IE_list=[IE_FAR_Id(id=2), actions(BUFF=1, NOCP=1), IE_BAR_Id(id=3)])
    drop = IE_CreateFAR(IE_list=[IE_FAR_Id(id=3), actions(DROP=1)])
    udp = IE_CreateFAR(
        IE_list=[
            IE_FAR_Id(id=4),
            actions(FORW=1),
            IE_ForwardingParameters(
                IE_list=[
                    IE_DestinationInterface(interface=2),
                    IE_OuterHeaderCreation(UDPIPV6=1, ipv6="2001:db8::8", port=4000),
                ]
            ),
        ]
    )
    return [forward, buffer, drop, udp]


def urr():
    return IE_CreateURR(
        IE_list=[
            IE_URR_Id(id=1),
            IE_MeasurementMethod(VOLUM=1, DURAT=1, EVENT=1),
            IE_ReportingTriggers(
                periodic_reporting=1, time_threshold=1, start_of_traffic=1,
                dropped_dl_traffic_threshold=1, linked_usage_reporting=1,
                time_quota=1, event_threshold=1, extra_data=b"\0",
            ),
            IE_MeasurementPeriod(period=60),
            IE_VolumeThreshold(TOVOL=1, ULVOL=1, DLVOL=1, total=1 << 40, uplink=2, downlink=3),
            IE_VolumeQuota(DLVOL=1, downlink=77),
            IE_EventThreshold(event_threshold=4),
            IE_EventQuota(event_quota=5),
            IE_TimeThreshold(threshold=600),
            IE_TimeQuota(quota=1200),
            IE_QuotaHoldingTime(time_value=30),
            IE_DroppedDLTrafficThreshold(DLPA=1, DLBY=1, packet_count=10, byte_count=1000),
            IE_NotImplemented(ietype=181, data=bytes([0, 0, 14, 16])),
            IE_MonitoringTime(time_value=NTP_2023),
            IE_SubsequentVolumeThreshold(ULVOL=1, uplink=8),
            IE_SubsequentTimeThreshold(threshold=11),
            IE_SubsequentVolumeQuota(TOVOL=1, total=9),
            IE_SubsequentTimeQuota(quota=12),
            IE_AdditionalMonitoringTime(
                IE_list=[IE_MonitoringTime(time_value=NTP_2023 + 60), IE_SubsequentTimeQuota(quota=13)]
            ),
            IE_InactivityDetectionTime(time_value=15),
            IE_LinkedURR_Id(id=2),
            IE_MeasurementInformation(MBQE=1, MNOP=1),
            IE_FAR_Id(id=3),
            IE_EnterpriseSpecific(ietype=0x8002, enterprise_id=32473, data=b"\x01"),
        ]
    )


def establishment():
    qer = IE_CreateQER(
        IE_list=[
            IE_QER_Id(id=1),
            IE_QERCorrelationId(id=0xC0DE),
            IE_GateStatus(ul="OPEN", dl="CLOSED"),
            IE_MBR(ul=1 << 33, dl=200_000),
            IE_GBR(ul=1_000, dl=2_000),
            IE_QFI(spare=0, QFI=9),
        ]
    )
    bar = IE_Create_BAR(
        IE_list=[
            IE_BAR_Id(id=3),
            IE_DownlinkDataNotificationDelay(delay=4),
            IE_SuggestedBufferingPacketsCount(count=20),
        ]
    )
    rules = [uplink_pdr(), *fars(), urr(), qer, bar]
    return session_message(
        PFCPSessionEstablishmentRequest(
            IE_list=[
                node(),
                IE_FSEID(v4=1, v6=1, seid=0x0102030405060708, ipv4="192.0.2.1", ipv6="2001:db8::1"),
                *rules,
                IE_PDNType(pdn_type=3),
                IE_UserPlaneInactivityTimer(timer=3600),
            ]
        ),
        0,
    )


def establishment_answer():
    return session_message(
        PFCPSessionEstablishmentResponse(
            IE_list=[
                node(),
                IE_Cause(cause=1),
                IE_FSEID(v4=1, seid=2, ipv4="192.0.2.2"),
                IE_CreatedPDR(
                    IE_list=[
                        IE_PDR_Id(id=1),
                        IE_FTEID(V4=1, TEID=0x11223344, ipv4="192.0.2.9"),
                        IE_UE_IP_Address(V4=1, SD=1, ipv4="10.45.0.3"),
                    ]
                ),
            ]
        ),
        0x0102030405060708,
    )


def modification():
    change = IE_UpdateFAR(
        IE_list=[
            IE_FAR_Id(id=2),
            actions(FORW=1),
            IE_UpdateForwardingParameters(
                IE_list=[
                    IE_OuterHeaderCreation(GTPUUDPIPV4=1, TEID=5, ipv4="192.0.2.8"),
                    IE_PFCPSMReqFlags(spare=0, SNDEM=1),
                ]
            ),
        ]
    )
    return session_message(
        PFCPSessionModificationRequest(
            IE_list=[
                IE_RemovePDR(IE_list=[IE_PDR_Id(id=4)]),
                IE_RemoveURR(IE_list=[IE_URR_Id(id=5)]),
                change,
                IE_UpdateURR(IE_list=[IE_URR_Id(id=1), IE_VolumeQuota(TOVOL=1, total=500)]),
                IE_UpdateQER(IE_list=[IE_QER_Id(id=1), IE_GateStatus(ul="CLOSED", dl="CLOSED")]),
                IE_PFCPSMReqFlags(spare=0, DROBU=1, QUARR=1),
                IE_QueryURR(IE_list=[IE_URR_Id(id=1)]),
                IE_QueryURRReference(reference=99),
            ]
        ),
        2,
    )


def usage_report(group):
    return group(
        IE_list=[
            IE_URR_Id(id=1),
            IE_UR_SEQN(number=3),
            IE_UsageReportTrigger(PERIO=1, TERMR=1, MONIT=1, extra_data=b"\0"),
            IE_StartTime(timestamp=NTP_2023),
            IE_EndTime(timestamp=NTP_2023 + 60),
            # Packet counts came with release 16.
            IE_VolumeMeasurement(
                spare=0b111, TOVOL=1, ULVOL=1, DLVOL=1, total=300, uplink=100, downlink=200,
                extra_data=b"".join(number.to_bytes(8, "big") for number in (7, 3, 4)),
            ),
            IE_DurationMeasurement(duration=60),
            IE_TimeOfFirstPacket(timestamp=NTP_2023 + 1),
            IE_TimeOfLastPacket(timestamp=NTP_2023 + 59),
            IE_UsageInformation(AFT=1),
        ]
    )


def deletion_answer():
    return session_message(
        PFCPSessionDeletionResponse(
            IE_list=[IE_Cause(cause=1), usage_report(IE_UsageReport_SDR)]
        ),
        0x0102030405060708,
    )


def report():
    data = IE_DownlinkDataReport(
        IE_list=[
            IE_PDR_Id(id=2),
            IE_DownlinkDataServiceInformation(
                spare_1=0, PPI=1, QFII=1, spare_2=0, ppi_val=5, spare_3=0, qfi_val=9
            ),
        ]
    )
    errors = IE_ErrorIndicationReport(IE_list=[IE_FTEID(V6=1, TEID=8, ipv6="2001:db8::8")])
    return session_message(
        PFCPSessionReportRequest(
            IE_list=[
                IE_ReportType(DLDR=1, USAR=1, ERIR=1, UPIR=1),
                data,
                usage_report(IE_UsageReport_SRR),
                errors,
                IE_AdditionalUsageReportsInformation(AURI=0, reports=3),
            ]
        ),
        1,
    )


def report_answer():
    bar = IE_UpdateBAR_SRR(
        IE_list=[
            IE_BAR_Id(id=3),
            IE_DownlinkDataNotificationDelay(delay=2),
            IE_DLBufferingDuration(timer_unit=1, timer_value=10),
            IE_DLBufferingSuggestedPacketCount(count=200),
        ]
    )
    flags = IE_PFCPSRRspFlags(spare=0, DROBU=1)
    return session_message(
        PFCPSessionReportResponse(IE_list=[IE_Cause(cause=1), bar, flags]), 2
    )


def node_report():
    peer = IE_RemoteGTP_U_Peer(V4=1, ipv4="192.0.2.50")
    return node_message(
        PFCPNodeReportRequest(
            IE_list=[
                node(),
                IE_NodeReportType(UPFR=1),
                IE_UserPlanePathFailureReport(IE_list=[peer]),
            ]
        )
    )


def session_set_deletion():
    sets = IE_FqCSID(node_id_type=0, ipv4="192.0.2.1", csids=[4, 5])
    return node_message(PFCPSessionSetDeletionRequest(IE_list=[node(), sets]))


BUILDERS = [
    heartbeat,
    association_setup,
    association_release,
    pfd_management,
    establishment,
    establishment_answer,
    modification,
    deletion_answer,
    report,
    report_answer,
    node_report,
    session_set_deletion,
]


def forget_octets(value):
    """Makes scapy build from fields, not from the octets that it remembers."""
    if isinstance(value, list):
        for part in value:
            forget_octets(part)
    elif isinstance(value, Packet) and not isinstance(value, NoPayload):
        value.raw_packet_cache = None
        value.original = b""
        for part in list(value.fields.values()):
            forget_octets(part)
        forget_octets(value.payload)


def not_understood(value, found):
    if isinstance(value, list):
        for part in value:
            not_understood(part, found)
    elif isinstance(value, Packet) and not isinstance(value, NoPayload):
        kind = type(value).__name__
        if isinstance(value, Raw) or kind == "IE_NotImplemented":
            found.append(f"{kind} {getattr(value, 'ietype', '')}".strip())
        if getattr(value, "extra_data", b""):
            found.append(f"{kind} extra {len(value.extra_data)}")
        for part in list(value.fields.values()):
            not_understood(part, found)
        not_understood(value.payload, found)
    return found


def main():
    if sys.argv[1] == "build":
        for build in BUILDERS:
            print(build.__name__, bytes(build()).hex())
        return
    # scapy takes every network instance for labels; ours are text.
    APNStrLenField.m2i = APNStrLenField.i2m = lambda self, packet, octets: octets
    # scapy 2.5 cannot write a suggested packet count of two octets again.
    pfcp.ietypecls.pop(48)
    for line in sys.stdin:
        octets = bytes.fromhex(line)
        packet = PFCP(octets)
        unknown = not_understood(packet, [])
        forget_octets(packet)
        print(json.dumps({"same": bytes(packet) == octets, "unknown": sorted(set(unknown))}))


main()
