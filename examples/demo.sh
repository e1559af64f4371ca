#!/usr/bin/env bash
# Sections 1 and 1.1 of the tutorial, for real: three nodes, a Deployment, a ClusterIP Service.
# The cluster is left running. Each command is shown as a user would type it.
set -euo pipefail
cd "$(dirname "$0")/tutorial"
export PATH="$PWD/../../.venv/bin:$PATH"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() {
	printf '$ %s\n' "$*"
	case $1 in
	kubectl) buoy "$@" ;;
	*) "$@" ;;
	esac
}

say "A cluster of three nodes"
if buoy status >/dev/null 2>&1; then
	echo "The cluster is up already; this goes on in it."
else
	run buoy up --nodes 3 --stand-in-images --no-uplink
fi

say "1. Three Pods, each with an address of its own"
run kubectl apply -f exampledeployforservice.yml
run kubectl rollout status deployment/exampledeployforservice --timeout=60s
run kubectl get pod -o wide

say "1.1 One address for all three: a ClusterIP Service"
run kubectl apply -f exampleclusteripservice.yml
run kubectl get service
run kubectl describe svc exampleclusteripservice

say "Ten requests from a node, spread over the three Pods"
address=$(buoy kubectl get service exampleclusteripservice -o 'jsonpath={.spec.clusterIP}')
# The rules follow the Service within milliseconds; a first request may be that fast, too.
buoy node exec node-1 -- curl -sS -o /dev/null --retry 20 --retry-delay 1 --retry-all-errors "http://$address:8080"
for attempt in 1 2 3 4 5; do
	printf '[root@node-1 ~]# for i in {1..10}; do curl %s:8080; done\n' "$address"
	answers=$(buoy node exec node-1 -- bash -c "for i in {1..10}; do curl -sS $address:8080; done")
	printf '%s\n' "$answers"
	[ "$(sort -u <<<"$answers" | wc -l)" -lt 3 ] || break
	echo "Chance has left a Pod out; ten more:"
done

say "How: each rule takes its share, with a probability, on every node"
echo '[root@node-1 ~]# iptables -t nat -L -v -n'
chain=$(buoy node exec node-1 -- iptables -t nat -S KUBE-SERVICES | sed -n 's/.*exampleclusteripservice.*-j \(KUBE-SVC-[A-Z0-9]*\).*/\1/p')
buoy node exec node-1 -- iptables -t nat -L "$chain" -v -n
echo ...

cat <<'END'

The cluster goes on running. To go on:
  .venv/bin/buoy kubectl scale deployment/exampledeployforservice --replicas=5
  .venv/bin/buoy kubectl describe svc exampleclusteripservice
  .venv/bin/buoy status
To end it:
  .venv/bin/buoy down
END
