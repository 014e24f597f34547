# Names that the expressions refer to.
variable "release" {
  type    = string
  default = "bookworm"
}

variable "ports" {
  type    = list(number)
  default = ["80", 443, 8080]
}

variable "names" {
  type    = set(string)
  default = ["b", "a", "b"]
}

variable "labels" {
  type    = map(string)
  default = { zone = "a", count = 3, flag = true }
}

variable "machine" {
  type    = object({ name = string, cpus = number, disks = list(object({ size = number })) })
  default = { name = "worker", cpus = "4", disks = [{ size = 10 }, { size = "20" }] }
}

variable "pair" {
  type    = tuple([string, number])
  default = [1, "2"]
}

variable "enabled" {
  default = true
}

variable "text_number" {
  type    = string
  default = "42"
}

locals {
  empty  = {}
  nested = { a = { b = { c = [1, 2, { d = "deep" }] } } }
  matrix = [[1, 2], [3, 4]]
  people = [{ name = "ann", tags = ["x", "y"] }, { name = "bob", tags = [] }]

  doc_plain = <<EOT
hello
  world
EOT

  doc_empty = <<EOT
EOT

  doc_after_empty = "seen"

  doc_dedent = <<-EOT
      one
        two

      three ${var.release}
    EOT

  doc_dedent_if = <<-EOT
    start
    %{if var.enabled}
      inside
    %{endif}
    end
  EOT

  doc_dedent_for = <<-EOT
    %{for port in var.ports~}
    port ${port}
    %{endfor~}
    done
  EOT

  doc_dedent_interpolation_first = <<-EOT
    a
  ${var.release}
    b
  EOT

  doc_trim_indented = <<EOT
x
  ${~ "m"}
y
EOT

  doc_trim_head = <<EOT
x
${~ "m" ~}

y
EOT

  doc_trim_right = <<EOT
x ${"m" ~}
   y
EOT

  doc_directives = <<EOT
%{for person in local.people~}
${person.name}:%{for tag in person.tags} ${tag}%{endfor}
%{endfor~}
end
EOT

  doc_else = <<EOT
%{if var.release == "trixie"~}
new
%{else~}
old
%{endif~}
EOT

  doc_escapes = <<EOT
$${a} %%{b} \n "quoted" $ % \\
EOT

  doc_tag_inside = <<EOF
EOFX
 XEOF
EOF

  doc_blank_line = <<-EOT
    a
  
    b
EOT

  doc_tabs = <<-EOT
		a
		  b
	EOT

  doc_in_list = [<<A
one
A
    , <<B
two
B
  ]

  quoted_directives = "%{for x in [1, 2, 3]}${x}%{if x != 3}, %{endif}%{endfor}"
  composed          = "e\u0301"
  multi_line = [
    1, # one
    2, /* two */ 3,
    // none
  ]
  conditional_in_parentheses = (
    var.enabled
    ? "yes"
    : "no"
  )
  duplicate = { a = 1, a = 2 }
  colons    = { a : 1, "b" : 2 }
  keys      = { (var.release) = 1, "${var.release}-x" = 2, 3 = 4, true = 5 }
}
