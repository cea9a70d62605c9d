// Hostpath gives volumes that are folders of the node, as local volumes with node affinity: unlike those of the
// controller-manager's own host-path provisioner, fsGroup works on them, so that pods need not run as root.
// A class with the parameter enforceSize=true gets an ext4 file system of exactly the size asked for.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const provisionerName = "pacs-operator.io/hostpath"

// ownMode is what a fresh block volume has: only root, until the kubelet hands it to the pod's fsGroup.
const ownMode = 0o770

type provisioner struct {
	folder, node string
}

// Provision makes the folder (or the file system) of one claim. Doing it again for the same claim changes nothing.
func (p *provisioner) Provision(
	ctx context.Context, options controller.ProvisionOptions,
) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	size := options.PVC.Spec.Resources.Requests[v1.ResourceStorage]
	path := filepath.Join(p.folder, options.PVName)
	if err := os.MkdirAll(path, ownMode); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	if options.StorageClass.Parameters["enforceSize"] == "true" {
		if err := mountFilesystem(ctx, path, size.Value()); err != nil {
			return nil, controller.ProvisioningFinished, err
		}
	}
	if err := os.Chmod(path, ownMode); err != nil { // past the umask
		return nil, controller.ProvisioningFinished, err
	}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   options.PVC.Spec.AccessModes,
			MountOptions:                  options.StorageClass.MountOptions,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: size},
			PersistentVolumeSource: v1.PersistentVolumeSource{
				Local: &v1.LocalVolumeSource{Path: path},
			},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{
				NodeSelectorTerms: []v1.NodeSelectorTerm{{
					MatchExpressions: []v1.NodeSelectorRequirement{{
						Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{p.node},
					}},
				}},
			}},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes what Provision made. It refuses a path outside its own folder, whatever the object says.
func (p *provisioner) Delete(ctx context.Context, volume *v1.PersistentVolume) error {
	path := filepath.Join(p.folder, volume.Name)
	if volume.Spec.Local == nil || volume.Spec.Local.Path != path {
		return fmt.Errorf("volume %s is not at %s: not removed", volume.Name, path)
	}
	if mounted(path) {
		if err := run(ctx, "umount", path); err != nil {
			return err
		}
	}
	if err := os.Remove(image(path)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.RemoveAll(path)
}

func image(path string) string { return path + ".img" }

// mountFilesystem makes an ext4 file system of size bytes, if there is none yet, and mounts it at path.
func mountFilesystem(ctx context.Context, path string, size int64) error {
	if mounted(path) {
		return nil
	}
	if _, err := os.Stat(image(path)); os.IsNotExist(err) {
		part := image(path) + ".part" // a half-made file system never gets the final name
		if err := run(ctx, "truncate", "--size", fmt.Sprint(size), part); err != nil {
			return err
		}
		if err := run(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", part); err != nil {
			return err
		}
		if err := os.Rename(part, image(path)); err != nil {
			return err
		}
	}
	return run(ctx, "mount", "-o", "loop,nosuid,nodev", image(path), path)
}

// mounted tells whether path is a mount point: its device differs from its parent's.
func mounted(path string) bool {
	var own, parent syscall.Stat_t
	return syscall.Stat(path, &own) == nil && syscall.Stat(filepath.Dir(path), &parent) == nil && own.Dev != parent.Dev
}

func run(ctx context.Context, name string, arguments ...string) error {
	output, err := exec.CommandContext(ctx, name, arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(output)))
	}
	return nil
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig file")
	folder := flag.String("folder", "", "folder that holds the volumes")
	node := flag.String("node", "", "name of the node that has the folder")
	klog.InitFlags(nil)
	flag.Parse()
	if *kubeconfig == "" || *folder == "" || *node == "" {
		klog.Exit("-kubeconfig, -folder and -node are required")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		klog.Exit(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		klog.Exit(err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	controller.NewProvisionController(
		ctx, client, provisionerName, &provisioner{folder: *folder, node: *node}, controller.LeaderElection(false),
	).Run(ctx)
}
