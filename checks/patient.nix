# A guest of the VM tests to Blixard: emulated, and so slow.
{
  blixard.vm.kvm = "unused";
  blixard.vm.health.deadlineMs = 600000;
}
