module fieldversions

go 1.24.0
