package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/minictr/minictr/pkg/engine"
	"github.com/minictr/minictr/pkg/format"
)

// systemDiskCommand is docker system df; there is no build cache.
func systemDiskCommand(f *pflag.FlagSet) action {
	list := listFlags(f)
	return withEngine(0, func(c *call, e *engine.Engine) error {
		kinds, err := e.DiskUsage()
		var rows []format.Row
		for _, k := range kinds {
			free := format.Size(k.Free)
			if k.Size > 0 {
				free += fmt.Sprintf(" (%d%%)", k.Free*100/k.Size)
			}
			rows = append(rows, format.Row{
				"Type": k.Type, "TotalCount": strconv.Itoa(k.Total), "Active": strconv.Itoa(k.Active), "Size": format.Size(k.Size), "Reclaimable": free,
			})
		}
		return errors.Join(c.print(list, diskFields(), []string{"Type", "TotalCount", "Active", "Size", "Reclaimable"}, rows), err)
	})
}

func diskFields() []format.Field {
	return []format.Field{
		{Name: "Type", Heading: "TYPE"},
		{Name: "TotalCount", Heading: "TOTAL"},
		{Name: "Active", Heading: "ACTIVE"},
		{Name: "Size", Heading: "SIZE"},
		{Name: "Reclaimable", Heading: "RECLAIMABLE"},
	}
}
