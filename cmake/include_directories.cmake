# Two repairs for builds in a virtual environment with ROS 2's wheels from PyPI. On an installation from apt, neither finds
# anything to do.

# The wheels carry include directories of the machine that built them (such as /opt/python/cp311-cp311/include) in the imported
# targets of the interface packages, and CMake refuses to generate while one of them does not exist. Nothing is lost by dropping
# them: rosidl adds the directories of the Python in use by itself.
function(drop_missing_include_directories)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT directories)
      continue()
    endif()
    set(kept "")
    foreach(directory IN LISTS directories)
      # a generator expression is not a path yet
      if(EXISTS "${directory}" OR directory MATCHES "\\$<")
        list(APPEND kept "${directory}")
      endif()
    endforeach()
    if(NOT kept STREQUAL directories)
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
    endif()
  endforeach()
endfunction()

# rosidl exports numpy's include directory. CMake refuses to export a directory below the source tree, and numpy lies there when
# the virtual environment is a folder of the checkout. This build needs the directory, users of the exported target do not.
function(do_not_export_include_directories_of_checkout target)
  if(NOT TARGET ${target})
    return()
  endif()
  get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(NOT directories)
    return()
  endif()
  set(wrapped "")
  foreach(directory IN LISTS directories)
    cmake_path(IS_PREFIX CMAKE_CURRENT_SOURCE_DIR "${directory}" NORMALIZE inside)
    if(inside)
      set(directory "$<BUILD_INTERFACE:${directory}>")
    endif()
    list(APPEND wrapped "${directory}")
  endforeach()
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${wrapped}")
endfunction()
