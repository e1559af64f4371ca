"""Local clusters: namespaces, LAN, nodes, supervision, tear-down, images, kubeconfig."""
