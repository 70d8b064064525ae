#!/usr/bin/env bash
# Gives the program of self_test.c the session of the packet that the example `ebpf` sends: TEID
# 0x55, subscriber 10.0.0.1. Called with `map=id` arguments; needs Debian's bpftool.
set -euo pipefail

for map in "$@"; do
    [ "${map%%=*}" = sessions ] || continue
    bpftool map update id "${map#*=}" key hex 00 00 00 55 \
        value hex 0a 00 00 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
done
