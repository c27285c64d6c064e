#!/bin/sh
# Runs a command in a network of its own, where nobody answers at 10.255.255.1:
# `unshare --net --map-root-user silent_network.sh COMMAND...`.
#
# Suites of HTTP clients wait there for a connection that never comes. Whether a machine's own
# network answers, refuses or keeps silent is a matter of its routers.
set -e
ip link set lo up
# What is sent into one end of the pair comes out at the other, where it is for nobody.
ip link add silent0 type veth peer name silent1
ip address add 10.255.255.2/24 dev silent0
ip link set silent0 up
ip link set silent1 up
ip neighbour add 10.255.255.1 lladdr 02:00:00:00:00:01 nud permanent dev silent0
exec "$@"
