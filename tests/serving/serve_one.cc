// Loads a version of an export with TensorFlow's C++ loader, as TensorFlow Serving does, asks one
// signature for the pictures in files, and prints each output as "name shape: values".
//
// serve_one VERSION SIGNATURE PICTURE... ; a file whose name ends in .txt is a text input.
// An export with a text tower needs the op library of tensorflow-text first: TEXT_OPS=a.so:b.so

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/public/session_options.h"

namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

tensorflow::Tensor Strings(const std::vector<std::string>& values) {
  const auto count = static_cast<int64_t>(values.size());
  tensorflow::Tensor tensor(tensorflow::DT_STRING, tensorflow::TensorShape({count}));
  for (int64_t i = 0; i < count; ++i) tensor.flat<tensorflow::tstring>()(i) = values[i];
  return tensor;
}

void Print(const std::string& name, const tensorflow::Tensor& tensor) {
  std::cout << name << " " << tensor.shape().DebugString() << ":";
  std::cout.precision(9);
  for (int64_t i = 0; i < tensor.NumElements(); ++i) {
    std::cout << "\t";
    switch (tensor.dtype()) {
      case tensorflow::DT_FLOAT:
        std::cout << tensor.flat<float>()(i);
        break;
      case tensorflow::DT_BOOL:
        std::cout << (tensor.flat<bool>()(i) ? 1 : 0);
        break;
      default:
        std::cout << std::string(tensor.flat<tensorflow::tstring>()(i));
    }
  }
  std::cout << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: serve_one VERSION SIGNATURE PICTURE...\n";
    return 2;
  }
  if (const char* libraries = std::getenv("TEXT_OPS")) {
    std::istringstream paths(libraries);
    for (std::string path; std::getline(paths, path, ':');) {
      void* handle = nullptr;
      const auto status =
          tensorflow::Env::Default()->LoadDynamicLibrary(path.c_str(), &handle);
      if (!status.ok()) {
        std::cerr << path << ": " << status.message() << "\n";
        return 1;
      }
    }
  }
  tensorflow::SavedModelBundle bundle;
  auto status = tensorflow::LoadSavedModel(tensorflow::SessionOptions(),
                                           tensorflow::RunOptions(), argv[1], {"serve"}, &bundle);
  if (!status.ok()) {
    std::cerr << status.message() << "\n";
    return 1;
  }
  const auto& signatures = bundle.meta_graph_def.signature_def();
  const auto found = signatures.find(argv[2]);
  if (found == signatures.end()) {
    std::cerr << "no signature " << argv[2] << "\n";
    return 1;
  }
  std::vector<std::string> pictures, texts;
  for (int i = 3; i < argc; ++i) {
    const std::string path = argv[i];
    const bool is_text = path.size() > 4 && path.substr(path.size() - 4) == ".txt";
    (is_text ? texts : pictures).push_back(ReadFile(path));
  }
  std::vector<std::pair<std::string, tensorflow::Tensor>> inputs;
  for (const auto& input : found->second.inputs()) {
    inputs.emplace_back(input.second.name(), Strings(input.first == "text" ? texts : pictures));
  }
  std::vector<std::string> names, tensors;
  for (const auto& output : found->second.outputs()) {
    names.push_back(output.first);
    tensors.push_back(output.second.name());
  }
  std::vector<tensorflow::Tensor> outputs;
  status = bundle.GetSession()->Run(inputs, tensors, {}, &outputs);
  if (!status.ok()) {
    std::cerr << status.message() << "\n";
    return 1;
  }
  for (size_t i = 0; i < names.size(); ++i) Print(names[i], outputs[i]);
  return 0;
}
