package main

// podnet gives pods their network: it does what kind's own kindnetd does, as far as these tests need it.
// On each node it writes the CNI configuration for the node's pod range and keeps a route to every
// other node's range. Nodes share one bridge, so a route per node is all that is needed between them.

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	conflistPath = "/etc/cni/net.d/10-podnet.conflist"
	syncEvery    = 2 * time.Second
	listTimeout  = 10 * time.Second
)

func podnet() error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	// kind puts the control plane's address here: the service address works only once kube-proxy runs.
	if endpoint := os.Getenv("CONTROL_PLANE_ENDPOINT"); endpoint != "" {
		config.Host = "https://" + endpoint
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	self := os.Getenv("NODE_NAME")
	for {
		if err := syncNodes(client, self); err != nil {
			fmt.Fprintln(os.Stderr, "podnet:", err)
		}
		time.Sleep(syncEvery)
	}
}

// syncNodes makes this node's configuration and routes match the nodes there are now.
func syncNodes(client kubernetes.Interface, self string) error {
	ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
	defer cancel()
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		if node.Spec.PodCIDR == "" {
			continue
		}
		if node.Name == self {
			err = writeConflist(node.Spec.PodCIDR)
		} else {
			err = routeTo(node)
		}
		if err != nil {
			return fmt.Errorf("node %s: %w", node.Name, err)
		}
	}
	return nil
}

// writeConflist renames into place, so that containerd never reads half a file.
func writeConflist(podCIDR string) error {
	content, err := json.MarshalIndent(conflist(podCIDR), "", "  ")
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(conflistPath); err == nil && string(old) == string(content) {
		return nil
	}
	temporary := filepath.Join(filepath.Dir(conflistPath), ".podnet.tmp")
	if err := os.WriteFile(temporary, content, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, conflistPath)
}

func conflist(podCIDR string) map[string]any {
	return map[string]any{
		"cniVersion": "1.0.0",
		"name":       "podnet",
		"plugins": []map[string]any{
			{
				"type":   "ptp",
				"ipMasq": false,
				"mtu":    1500,
				"ipam": map[string]any{
					"type":    "host-local",
					"dataDir": "/run/cni-ipam-state",
					"routes":  []map[string]string{{"dst": "0.0.0.0/0"}},
					"ranges":  [][]map[string]string{{{"subnet": podCIDR}}},
				},
			},
			{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}},
		},
	}
}

func routeTo(node *corev1.Node) error {
	_, destination, err := net.ParseCIDR(node.Spec.PodCIDR)
	if err != nil {
		return err
	}
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return netlink.RouteReplace(&netlink.Route{Dst: destination, Gw: net.ParseIP(address.Address)})
		}
	}
	return nil // the kubelet has not reported its address yet: the next round finds it
}
