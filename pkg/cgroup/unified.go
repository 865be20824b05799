package cgroup

import (
	"maps"
	"slices"
	"strings"
)

// unified lists what /linux/resources/unified asks for: files of version 2 by
// their names, with lines that are written one by one, as the kernel reads
// them.
func (g Group) unified(files map[string]string) ([]setting, error) {
	var list []setting
	for _, file := range slices.Sorted(maps.Keys(files)) {
		pointer := "/linux/resources/unified/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(file)
		controller := controllerOf(file)
		if strings.ContainsAny(file, "/\x00") || controller == "" || controller == file {
			return nil, invalid(pointer, "%q is no name of a cgroup file", file)
		}
		i := slices.IndexFunc(g.Places, func(p Place) bool {
			return p.V2 && (controller == "cgroup" || slices.Contains(p.Controllers, controller))
		})
		if i < 0 {
			return nil, &MissingError{pointer, "v2 " + controller, g.version()}
		}
		for line := range strings.Lines(files[file]) {
			list = append(list, setting{
				pointer: pointer, file: g.Places[i].Dir + "/" + file, value: strings.TrimSuffix(line, "\n"),
				why: "config.json names this file of cgroup v2 itself",
			})
		}
	}
	return list, nil
}
