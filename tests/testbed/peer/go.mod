module pacs-operator.io/testbed/peer

go 1.26.0
