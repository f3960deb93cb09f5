"""The ground floor: no app imports, no hypervisor words."""
